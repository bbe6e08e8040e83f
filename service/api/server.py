"""An HTTP server inside an event loop that is already running.

The port is bound before anything else and the body of the context runs once requests are answered. Signals stay with
whoever runs the loop: a worker drains first and stops answering probes last.
"""

import asyncio
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Final

import uvicorn
from starlette.types import ASGIApp

DRAIN_SECONDS: Final = 5


class _Server(uvicorn.Server):
    """Tells when it has started, and leaves signals alone."""

    def __init__(self, app: ASGIApp) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                log_config=None,
                access_log=False,
                ws="none",
                server_header=False,
                proxy_headers=False,
                timeout_graceful_shutdown=DRAIN_SECONDS,
            )
        )
        self.startup_ended = asyncio.Event()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        try:
            await super().startup(sockets)
        except SystemExit:  # would end the whole process, not only this server
            raise RuntimeError("the application did not start; the log says why") from None
        finally:
            self.startup_ended.set()


@asynccontextmanager
async def serve(app: ASGIApp, host: str, port: int) -> AsyncIterator[int]:
    """Serve `app` while the body runs; yields the bound port (`port` 0 takes a free one).

    Raises `OSError` when the address cannot be bound and `RuntimeError` when the application does not start.
    On leaving, requests under way get `DRAIN_SECONDS` to end.
    """
    with _bind(host, port) as listener:
        server = _Server(app)
        serving = asyncio.create_task(server.serve(sockets=[listener]), name=f"http {host}:{port}")
        try:
            await _started(server, serving)
            yield listener.getsockname()[1]
        finally:
            server.should_exit = True
            await serving


def _bind(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=2048)
    except OSError as error:
        raise OSError(error.errno, f"cannot listen on {host}:{port}: {error.strerror}") from error


async def _started(server: _Server, serving: asyncio.Task[None]) -> None:
    await server.startup_ended.wait()
    if not server.started:
        await serving
