"""Who asks: found before a request is routed, so that a stranger learns nothing, not even which paths there are."""

from collections.abc import Callable, Collection, Mapping
from typing import Annotated, Final, TypeAlias, cast

from fastapi import Depends, Request
from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from service.ports import Unavailable
from service.usecases.access import Access, Principal, hash_of

_SCHEMES: Final = ("bearer", "token")
_STATE: Final = "principal"

Refuse: TypeAlias = Callable[[int, str, Mapping[str, str]], Response]
"""Renders a refusal in the words of a dialect: status, message, headers."""


class Authentication:
    """Lets in whoever sends a token that is known: `Authorization: Bearer …` or `Authorization: Token …`."""

    def __init__(self, app: ASGIApp, access: Access, refuse: Refuse, *, public: Collection[str] = ()) -> None:
        """`public`: paths below the mount that everybody may read."""
        self._app = app
        self._access = access
        self._refuse = refuse
        self._public = frozenset(public)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"].removeprefix(scope.get("root_path", "")) in self._public:
            await self._app(scope, receive, send)
            return
        token = _token(Headers(scope=scope).getlist("authorization"))
        try:
            principal = None if token is None else await self._access.principal(hash_of(token))
        except Unavailable:
            await self._refuse(503, "The database can not be reached.", {"Retry-After": "5"})(scope, receive, send)
            return
        if principal is None:
            refusal = self._refuse(401, "A valid token is needed.", {"WWW-Authenticate": "Bearer"})
            await refusal(scope, receive, send)
            return
        scope.setdefault("state", {})[_STATE] = principal
        await self._app(scope, receive, send)


def _token(headers: list[str]) -> str | None:
    if len(headers) != 1:
        return None
    scheme, _, token = headers[0].strip().partition(" ")
    token = token.strip()
    return token if scheme.lower() in _SCHEMES and token else None


async def _caller(request: Request) -> Principal:  # a plain function would run in a thread
    return cast(Principal, request.scope["state"][_STATE])


Caller = Annotated[Principal, Depends(_caller)]
