"""The outbox slot: every outgoing record of one micro-batch, as the ledger keeps it and as Kafka gets it."""

from collections.abc import Sequence

import cramjam
import msgspec

from service.domain.records import Batch, Codec, OutRecord
from service.wire.record_batch import encode_records, packed, unpacked

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(list[Batch]).decode
_decode_records = msgspec.msgpack.Decoder(list[OutRecord]).decode
_ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"


def pack_slot(batches: Sequence[Batch]) -> bytes:
    """The batches in order. One that is to be sent uncompressed is kept compressed."""
    return _encode([_kept(batch) for batch in batches])


def unpack_slot(block: bytes) -> list[Batch]:
    """The batches of a block; none for an empty one."""
    if block[:4] == _ZSTD_MAGIC:  # of single records, as it was before there were batches
        return encode_records(_decode_records(bytes(cramjam.zstd.decompress(block))))
    return [_sent(batch) for batch in _decode(block)] if block else []


def _kept(batch: Batch) -> Batch:
    return batch._replace(payload=packed(batch.payload, Codec.ZSTD)) if batch.codec == Codec.NONE else batch


def _sent(batch: Batch) -> Batch:
    if batch.codec != Codec.NONE:
        return batch
    return batch._replace(payload=unpacked(batch._replace(codec=Codec.ZSTD)))
