"""What the operations share that take rows in a JSON body."""

from collections.abc import Mapping
from typing import Annotated, Any, Final

from fastapi import Header, Request

from service.api.core.deps import ApiDeps
from service.api.core.row_bodies import RowsRead
from service.api.datarobot.fields import Json
from service.api.datarobot.statuses import accepted
from service.usecases.access import Principal
from service.usecases.submissions import KEY_HEADER, Content, Posted, submit

MOST_ROWS: Final = 10_000
_WORDS: Final[Mapping[str, str]] = {
    "actual": "actualValue",
    "batchId": "monitoringBatchId",
    "label": "className",
    "share": "value",
}
"""What a path of the events is called here, step by step."""

IdempotencyKey = Annotated[
    str | None,
    Header(
        alias=KEY_HEADER,
        description="Makes the request safe to repeat for 24 hours: the same request with the same key is answered "
        "with the status of the first; if that failed, its rows are sent again and none counts twice.",
    ),
]


async def take_rows(
    request: Request, caller: Principal, api: ApiDeps, deployment_id: str, key: str | None, read: RowsRead[Any]
) -> Json:
    """The answer to a request whose body was read."""
    content: Content = read.content
    posted = Posted(
        principal=caller,
        deployment_id=deployment_id,
        problems=read.problems,
        rows=read.rows,
        words=_WORDS,
        key=key,
        content_hash=read.content_hash,
        received=read.received,
        read_s=read.read_s,
    )
    return accepted(request, api, await submit(api.intake, posted, content))
