"""Data sets: files of rows that actuals and predictions can be sent from."""

from typing import Annotated, Final

from fastapi import APIRouter, Depends, Path
from starlette.responses import Response

from service.api.core.authentication import Caller
from service.api.core.deps import Deps
from service.api.core.uploads import Form, FormBody
from service.api.datarobot.fields import Instant, Json, Shown
from service.api.datarobot.gate import Writer
from service.api.datarobot.paging import Asked, Page
from service.api.datarobot.renaming import renaming
from service.domain.errors import Invalid
from service.usecases import data_sets as cases
from service.usecases.data_sets import DataSet

router = APIRouter(tags=["data sets"])
_FORM: Final = FormBody(
    {
        "file": "CSV (UTF-8, the first line names the columns) or Parquet, told apart by content; at most 5 GiB.",
        "name": "1 to 256 characters; without it, the name of the file.",
        "datasetId": "A data set of which the file becomes the newest version.",
    },
    required=("file",),
)


class Author(Shown):
    id: str
    name: str


class Dataset(Shown):
    """A data set in its newest version."""

    id: str
    version_id: str
    name: str
    format: str
    rows: int
    columns: list[str]
    size_bytes: int
    created_at: Instant
    created_by: Author


@router.post("/datasets/", status_code=201, response_model=Dataset)
async def upload_dataset(caller: Writer, api: Deps, form: Annotated[Form, Depends(_FORM)]) -> Json:
    """Keep a file, to send rows from it."""
    file = form.files.get("file")
    if file is None:
        raise Invalid("file: is required, as a part with a file name")
    with renaming():
        made = await cases.upload(
            api.data_sets,
            api.files,
            caller,
            file.path,
            file_name=file.name,
            name=form.fields.get("name"),
            data_set_id=form.fields.get("datasetId"),
            now=api.clock.now(),
        )
    return Json(_shown(made), 201)


@router.get("/datasets/", response_model=Page[Dataset])
async def list_datasets(caller: Caller, api: Deps, asked: Asked) -> Json:
    """Each in its newest version, the newest first."""
    found, total = await cases.page(api.data_sets, caller, offset=asked.offset, limit=asked.limit)
    return Json(asked.page([_shown(one) for one in found], total))


@router.delete("/datasets/{datasetId}/", status_code=204, response_class=Response)
async def delete_dataset(caller: Caller, api: Deps, dataset_id: Annotated[str, Path(alias="datasetId")]) -> Response:
    """All its versions."""
    await cases.delete(api.data_sets, api.files, caller, dataset_id)
    return Response(status_code=204)


def _shown(one: DataSet) -> Dataset:
    return Dataset(
        id=one.id,
        version_id=one.version_id,
        name=one.name,
        format=one.table.format,
        rows=one.rows,
        columns=list(one.table.columns),
        size_bytes=one.size_bytes,
        created_at=one.created_at,
        created_by=Author(**one.created_by),
    )
