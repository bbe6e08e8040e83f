"""A TCP proxy between a worker and a server, which can be slow, go silent and cut its sessions, a session with Postgres
also at its COMMIT.
"""

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from enum import Enum, auto
from urllib.parse import urlsplit, urlunsplit

_COMMIT = b"COMMIT;\x00"
_COMMITTED = b"COMMIT\x00"
_CHUNK = 1 << 16


class Cut(Enum):
    """When a session ends that is about to commit."""

    BEFORE = auto()
    """The server never hears of the COMMIT."""
    UNDER_WAY = auto()
    """The server has the COMMIT, and may do it later than the client learns that the session is gone."""
    AFTER = auto()
    """The server has committed, the client does not hear of it."""


class Proxy:
    """Use `open_proxy` or `open_proxy_to`. Cuts are counted by kind."""

    def __init__(self, host: str, port: int) -> None:
        self._address = host, port
        self._speaks = asyncio.Event()
        self._speaks.set()
        self._choose: Callable[[], Cut | None] = lambda: None
        self._delay = 0.0
        self._sessions: set[asyncio.Task[None]] = set()
        self.cuts: list[Cut] = []

    def cut_commits(self, share: float, *, seed: int) -> None:
        """From here on end so many of the sessions at their COMMIT, in any of the ways."""
        rng = random.Random(seed)
        self._choose = lambda: rng.choice(list(Cut)) if rng.random() < share else None

    def cut_nothing(self) -> None:
        self._choose = lambda: None

    def fall_silent(self) -> None:
        """Take what comes and let nothing through; sessions stay open."""
        self._speaks.clear()

    def speak(self) -> None:
        self._speaks.set()

    def slow_down(self, seconds: float) -> None:
        """From here on everything that passes is late by so much, in either direction; 0 ends it."""
        self._delay = seconds

    def cut(self) -> None:
        """End every session; new ones are let in."""
        for session in list(self._sessions):
            session.cancel()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        session = asyncio.current_task()
        assert session is not None
        self._sessions.add(session)
        try:
            await self._speaks.wait()
            from_server, to_server = await asyncio.open_connection(*self._address)
            try:
                await self._relay(reader, writer, from_server, to_server)
            finally:
                to_server.close()
        except (OSError, asyncio.CancelledError):  # cancelled by `cut` only
            pass
        finally:
            writer.close()
            self._sessions.discard(session)

    async def _relay(
        self,
        from_client: asyncio.StreamReader,
        to_client: asyncio.StreamWriter,
        from_server: asyncio.StreamReader,
        to_server: asyncio.StreamWriter,
    ) -> None:
        hiding = asyncio.Event()
        both = [
            asyncio.create_task(self._upwards(from_client, to_server, hiding)),
            asyncio.create_task(self._downwards(from_server, to_client, hiding)),
        ]
        try:
            await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for one in both:
                one.cancel()
            await asyncio.gather(*both, return_exceptions=True)

    async def _upwards(
        self, from_client: asyncio.StreamReader, to_server: asyncio.StreamWriter, hiding: asyncio.Event
    ) -> None:
        while data := await from_client.read(_CHUNK):
            await self._hold()
            cut = self._choose() if data.endswith(_COMMIT) else None
            if cut is not None:
                self.cuts.append(cut)
            if cut is Cut.BEFORE:
                return
            if cut is Cut.AFTER:
                hiding.set()
            to_server.write(data)
            await to_server.drain()
            if cut is Cut.UNDER_WAY:
                return

    async def _downwards(
        self, from_server: asyncio.StreamReader, to_client: asyncio.StreamWriter, hiding: asyncio.Event
    ) -> None:
        while data := await from_server.read(_CHUNK):
            await self._hold()
            if hiding.is_set():
                if _COMMITTED in data:
                    return
                continue
            to_client.write(data)
            await to_client.drain()

    async def _hold(self) -> None:
        await self._speaks.wait()
        if self._delay:
            await asyncio.sleep(self._delay)

    async def close(self) -> None:
        self.cut()
        with suppress(asyncio.CancelledError):
            await asyncio.gather(*self._sessions, return_exceptions=True)


@asynccontextmanager
async def open_proxy_to(host: str, port: int) -> AsyncIterator[tuple[Proxy, int]]:
    """The proxy, and the port on which it listens."""
    proxy = Proxy(host, port)
    server = await asyncio.start_server(proxy.serve, "127.0.0.1", 0)
    try:
        yield proxy, server.sockets[0].getsockname()[1]
    finally:
        server.close()
        await proxy.close()


@asynccontextmanager
async def open_proxy(dsn: str) -> AsyncIterator[tuple[Proxy, str]]:
    """The proxy, and the DSN of the same database through it."""
    parts = urlsplit(dsn)
    assert parts.hostname is not None and parts.port is not None
    async with open_proxy_to(parts.hostname, parts.port) as (proxy, port):
        login = parts.netloc.rpartition("@")[0]
        yield proxy, urlunsplit(parts._replace(netloc=f"{login}@127.0.0.1:{port}"))
