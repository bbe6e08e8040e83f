"""The status topic of a `MemoryBroker` as the changelog of the state store."""

from service.adapters.memory.broker import MemoryBroker, MemoryRecord
from service.ports import ApplyChunk, Topic
from service.wire.status import HEADER_STATE


class MemoryStatusLog:
    """Reads what was published, so many records at a time; it never changes anything."""

    def __init__(self, broker: MemoryBroker, chunk: int = 1000) -> None:
        self._broker = broker
        self._chunk = chunk

    def replay(self, task: int, start: int, at_least: int, apply: ApplyChunk) -> int:
        log = self._broker.log(Topic.STATUS, task)
        end = max(at_least, log.end)
        while chunk := [record for record in log.read(start, self._chunk) if record.offset < end]:
            start = chunk[-1].offset + 1
            apply([(record.key or b"", _state(record)) for record in chunk], start, end)
        return end

    def begin(self, task: int) -> int:
        return self._broker.log(Topic.STATUS, task).begin


def _state(record: MemoryRecord) -> bytes | None:
    """The row after this status; none after a tombstone, and none where the record left no row."""
    return None if record.value is None else dict(record.headers).get(HEADER_STATE) or None
