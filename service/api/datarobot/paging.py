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
        self.limit = min(limit, MAX_LIMIT)
        self._request = request
        self._origin = origin

    def page(self, data: Sequence[T], total: int) -> Page[T]:
        """The envelope around these items of `total`."""
        after = self.offset + len(data)
        return Page[T](
            count=len(data),
            next=self._at(after) if data and after < total else None,
            previous=self._at(max(0, self.offset - self.limit)) if self.offset else None,
            data=data,
            total_count=total,
        )

    def _at(self, offset: int) -> str:
        return link(self._origin, self._request, {"offset": offset, "limit": self.limit})


def link(origin: str, request: Request, replaced: dict[str, int]) -> str:
    """The URL of this request, with some query parameters of other values."""
    kept = parse_qsl(request.url.query, keep_blank_values=True)
    query = [(name, value) for name, value in kept if name not in replaced] + list(replaced.items())
    return f"{origin}{request.url.path}?{urlencode(query)}"


async def _asked(
    request: Request,
    api: Deps,
    offset: Annotated[int, Query(ge=0, le=_OFFSET_MOST, description="Items to pass over.")] = 0,
    limit: Annotated[int, Query(ge=1, le=_OFFSET_MOST, description="Items of a page; at most 1,000.")] = 100,
) -> Paging:
    return Paging(request, api.origins.of(request), offset, limit)


Asked = Annotated[Paging, Depends(_asked)]
