"""Pages of lists: which one is asked for, and the envelope that it comes in."""

from collections.abc import Sequence
from typing import Annotated, Final, Generic, TypeVar
from urllib.parse import parse_qsl, urlencode

from fastapi import Depends, Query, Request

from service.api.core.deps import Deps
from service.api.datarobot.fields import Shown

MAX_LIMIT: Final = 1_000
_OFFSET_MOST: Final = 1 << 53
T = TypeVar("T", bound=Shown)


class Page(Shown, Generic[T]):
    """A part of a list. `next` and `previous` hold the whole question in their query strings."""

    count: int
    """Items on this page."""
    next: str | None
    previous: str | None
    data: Sequence[T]
    total_count: int
    """Items on all pages."""


class Paging:
    """Which part of a list a request wants, and how to say where the others are."""

    def __init__(self, request: Request, origin: str, offset: int, limit: int) -> None:
        self.offset = offset
        self.limit = limit
        self._request = request
        self._origin = origin

    def page(self, data: Sequence[T], total: int) -> Page[T]:
        """The envelope around these items of `total`."""
        following, previous = self.neighbours(len(data), total)
        return Page[T](count=len(data), next=following, previous=previous, data=data, total_count=total)

    def neighbours(self, shown: int, total: int) -> tuple[str | None, str | None]:
        """The pages after and before this one, which shows so many of `total`."""
        after = self.offset + shown
        return (
            self._at(after) if shown and after < total else None,
            self._at(max(0, self.offset - self.limit)) if self.offset else None,
        )

    def _at(self, offset: int) -> str:
        """The URL of this request, at another place."""
        kept = parse_qsl(self._request.url.query, keep_blank_values=True)
        query = [(name, value) for name, value in kept if name not in ("offset", "limit")]
        query += [("offset", str(offset)), ("limit", str(self.limit))]
        return f"{self._origin}{self._request.url.path}?{urlencode(query)}"


async def _asked(
    request: Request,
    api: Deps,
    offset: Annotated[int, Query(ge=0, le=_OFFSET_MOST, description="Items to pass over.")] = 0,
    limit: Annotated[int, Query(ge=1, le=_OFFSET_MOST, description="Items of a page; at most 1,000.")] = 100,
) -> Paging:
    return Paging(request, api.origins.of(request), offset, min(limit, MAX_LIMIT))


Asked = Annotated[Paging, Depends(_asked)]
