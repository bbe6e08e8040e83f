"""A batch that is already encoded, in the shape that the library's producer takes: only its header is still to come."""

import struct

from service.adapters.kafka.checksums import crc32c
from service.domain.records import Batch

_BEGIN = struct.Struct(">qiibI")
"""Base offset, length of what follows it, leader epoch, magic, checksum of what follows that."""
_REST = struct.Struct(">hiqqqhii")
"""Attributes, last offset delta, first and greatest timestamp, producer ID, epoch and sequence, number of records."""
_AFTER_LENGTH = 12
_MAGIC = 2
_TRANSACTIONAL = 0x10
_NO_PRODUCER = (-1, -1, -1)


class ReadyBatch:
    """What `AIOKafkaProducer.send_batch` uses of a `BatchBuilder`."""

    def __init__(self, batch: Batch, *, transactional: bool) -> None:
        self._batch = batch
        self._attributes = batch.codec | (_TRANSACTIONAL if transactional else 0)
        self._producer = _NO_PRODUCER
        self._built: bytes | None = None

    def record_count(self) -> int:
        return self._batch.record_count

    def size(self) -> int:
        return _BEGIN.size + _REST.size + len(self._batch.payload)

    def close(self) -> None:
        """It is from the start."""

    def closed(self) -> bool:
        return True

    def _set_producer_state(self, producer_id: int, producer_epoch: int, base_sequence: int) -> None:
        self._producer = producer_id, producer_epoch, base_sequence

    def _build(self) -> bytes:
        """The same bytes however often it is sent again."""
        if self._built is None:
            batch, count = self._batch, self._batch.record_count
            rest = _REST.pack(self._attributes, count - 1, batch.first_ms, batch.latest_ms, *self._producer, count)
            checked = rest + batch.payload
            length = _BEGIN.size - _AFTER_LENGTH + len(checked)
            self._built = _BEGIN.pack(0, length, -1, _MAGIC, crc32c(checked)) + checked
        return self._built
