"""The outbox slot: every outgoing record of one micro-batch in one compressed block, as the ledger keeps it."""

from collections.abc import Sequence

import cramjam
import msgspec

from service.domain.records import OutRecord

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(list[OutRecord]).decode
_LEVEL = 1


def pack_slot(records: Sequence[OutRecord]) -> bytes:
    """The records as one zstd block, in order."""
    return bytes(cramjam.zstd.compress(_encode(records), level=_LEVEL))


def unpack_slot(block: bytes) -> list[OutRecord]:
    """The records of a block; none for an empty one."""
    return _decode(bytes(cramjam.zstd.decompress(block))) if block else []
