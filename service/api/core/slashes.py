"""Paths of an API end in a slash; one without it means the same, and nobody is sent from the one to the other."""

from collections.abc import Collection

from starlette.types import ASGIApp, Receive, Scope, Send


class FinalSlash:
    """Adds the slash to paths below a prefix, where it is missing, before anything is routed."""

    def __init__(self, app: ASGIApp, prefixes: Collection[str], verbatim: Collection[str] = ()) -> None:
        self._app = app
        self._prefixes = tuple(prefix + "/" for prefix in prefixes)
        self._verbatim = frozenset(verbatim)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            path = scope["path"]
            if not path.endswith("/") and (path + "/").startswith(self._prefixes) and path not in self._verbatim:
                scope["path"], scope["raw_path"] = path + "/", (scope.get("raw_path") or path.encode()) + b"/"
        await self._app(scope, receive, send)
