"""What is remembered of things that flap: a Faust table, whose changelog topic is the truth.

A write returns when Kafka has it, whatever the table would do by itself: the offset of the source is committed after
it. Writes name their partition, so the timer may make them, too. Beside the things the changelog holds for each
partition up to which record all is done, written when a thing is let go; else its last record could come again after
that and be told once more, after a later one.
"""

import asyncio
from collections.abc import Awaitable, Collection, Sequence
from typing import Any, Protocol

import msgspec

from service.alerts.flaps import FlapState
from service.wire.notification import Source

_encode = msgspec.json.Encoder().encode
_decode_state = msgspec.json.Decoder(FlapState).decode
_decode_source = msgspec.json.Decoder(Source).decode
_DONE = b'["done",%d]'


class Write(Protocol):
    """Puts a record onto a topic. Raises `Interrupted`."""

    def __call__(
        self,
        topic: str,
        *,
        key: bytes | None,
        value: bytes | None,
        stop: asyncio.Event,
        partition: int | None = None,
        headers: Sequence[tuple[str, bytes]] = (),
    ) -> Awaitable[None]: ...


class TableMemory:
    """Of the partitions that were assigned at the last `load`."""

    def __init__(self, table: Any, write: Write) -> None:
        self._table = table
        self._write = write
        self._states: dict[bytes, FlapState] = {}
        self._done: dict[int, Source] = {}

    def load(self, partitions: Collection[int]) -> None:
        """After the table was restored. What is left of other partitions is dropped; their owner has it."""
        self._states.clear()
        self._done.clear()
        for key, value in list(self._table.data.items()):
            if key.startswith(b'["done",'):
                source = _decode_source(value)
            else:
                state = _decode_state(value)
                source = state.source
                if source.partition in partitions:
                    self._states[key] = state
            if source.partition in partitions:
                self._note(source)
            else:
                self._table.data.pop(key)

    def get(self, key: bytes) -> FlapState | None:
        return self._states.get(key)

    def all(self) -> Sequence[tuple[bytes, FlapState]]:
        return list(self._states.items())

    def has_done(self, source: Source) -> bool:
        """By time, too: a topic that was made anew counts its offsets from 0."""
        done = self._done.get(source.partition)
        return done is not None and source.offset <= done.offset and source.timestamp_ms <= done.timestamp_ms

    async def put(self, key: bytes, state: FlapState, stop: asyncio.Event) -> None:
        await self._set(key, _encode(state), state.source.partition, stop)
        self._states[key] = state
        self._note(state.source)

    async def remove(self, key: bytes, source: Source, stop: asyncio.Event) -> None:
        self._note(source)
        done = self._done[source.partition]
        await self._set(_DONE % source.partition, _encode(done), source.partition, stop)
        await self._set(key, None, source.partition, stop)
        self._states.pop(key, None)

    async def _set(self, key: bytes, value: bytes | None, partition: int, stop: asyncio.Event) -> None:
        topic = self._table.changelog_topic.get_topic_name()
        await self._write(topic, key=key, value=value, partition=partition, stop=stop)
        if value is None:
            self._table.data.pop(key, None)
        else:
            self._table.data[key] = value

    def _note(self, source: Source) -> None:
        known = self._done.get(source.partition)
        if known is None or (source.timestamp_ms, source.offset) > (known.timestamp_ms, known.offset):
            self._done[source.partition] = source
