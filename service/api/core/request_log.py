"""One line in the log for every request of a dialect, and an ID that the answer carries too."""

from secrets import token_hex
from time import perf_counter
from typing import Final

import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_log = structlog.get_logger(__name__)
_LONGEST_TRACE: Final = 1_024
HEADER: Final = "X-Request-Id"


class RequestLog:
    """Never a token, never a body."""

    def __init__(self, app: ASGIApp, trace_header: str) -> None:
        """`trace_header`: in which a client may say what the request is part of."""
        self._app = app
        self._trace_header = trace_header

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id, status, began = token_hex(8), 500, perf_counter()

        async def noted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message)[HEADER] = request_id
            await send(message)

        try:
            await self._app(scope, receive, noted)
        finally:
            principal = scope.get("state", {}).get("principal")
            trace = Headers(scope=scope).get(self._trace_header)
            _log.info(
                "request",
                id=request_id,
                method=scope["method"],
                path=scope["path"][:_LONGEST_TRACE],
                status=status,
                ms=round((perf_counter() - began) * 1_000, 1),
                user=None if principal is None else principal.username,
                trace=None if trace is None else trace[:_LONGEST_TRACE],
            )
