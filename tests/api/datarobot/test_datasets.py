"""Data sets over HTTP: what is kept, what is shown, who may, and what a bad upload is told."""

import asyncio
import io
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import polars as pl
import pytest

from service.api.app import create_app
from service.usecases.access import Principal, Scope, hash_of
from service.usecases.data_sets import key_of, sweep
from service.usecases.status_tasks import TaskKind, TaskStatus, begin
from tests.api.datarobot.conftest import Api

CSV = b"id,y\r\n1,0.5\r\n2,\r\n"


async def upload(
    client: httpx.AsyncClient, content: bytes = CSV, file_name: str = "actuals-may.csv", **fields: str
) -> dict[str, Any]:
    answer = await client.post("/datasets/", files={"file": (file_name, content)}, data=fields)
    assert answer.status_code == 201, answer.text
    shown: dict[str, Any] = answer.json()
    return shown


async def refused(client: httpx.AsyncClient, content: bytes, **fields: str) -> dict[str, str]:
    answer = await client.post("/datasets/", files={"file": ("f.csv", content)}, data=fields)
    assert answer.status_code == 422, answer.text
    errors: dict[str, str] = answer.json()["errors"]
    return errors


def kept_files(tmp_path: Path) -> list[Path]:
    return [file for file in (tmp_path / "files").rglob("*") if file.is_file()]


def parquet(**columns: list[object]) -> bytes:
    made = io.BytesIO()
    pl.DataFrame(columns).write_parquet(made)
    return made.getvalue()


async def principal_of(api: Api, token: str) -> Principal:
    found = await api.deps.access.principal(hash_of(token))
    assert found is not None
    return found


async def test_an_upload_is_kept_and_shown(api: Api, client: httpx.AsyncClient, tmp_path: Path) -> None:
    shown = await upload(client)
    me = await principal_of(api, client.headers["authorization"].removeprefix("Bearer "))
    assert shown.pop("createdAt").endswith("Z")
    data_set_id, version_id = shown.pop("id"), shown.pop("versionId")
    assert len(data_set_id) == len(version_id) == 24
    assert shown == {
        "name": "actuals-may.csv", "format": "csv", "rows": 2, "columns": ["id", "y"], "sizeBytes": len(CSV),
        "createdBy": {"id": me.user_id, "name": "alice"},
    }  # fmt: skip
    async with api.deps.files.open(key_of(data_set_id, version_id)) as path:
        assert path.read_bytes() == CSV
    assert list((tmp_path / "spool").iterdir()) == []


async def test_parquet_is_told_by_its_content(client: httpx.AsyncClient) -> None:
    shown = await upload(client, parquet(id=["a", "b", "c"], y=[1.0, None, 2.0]), "rows.csv", name="May")
    assert (shown["format"], shown["rows"], shown["columns"], shown["name"]) == ("parquet", 3, ["id", "y"], "May")


async def test_a_new_version_takes_the_place_of_the_older_one(client: httpx.AsyncClient) -> None:
    first = await upload(client, name="actuals")
    second = await upload(client, b"id\n", datasetId=first["id"])
    assert second["id"] == first["id"]
    assert (second["name"], second["rows"]) == ("actuals", 0)
    third = await upload(client, datasetId=first["id"], name="renamed")
    listed = (await client.get("/datasets/")).json()
    assert listed["data"] == [third]
    assert (third["name"], listed["totalCount"]) == ("renamed", 1)


async def test_the_list_has_pages_the_newest_first(client: httpx.AsyncClient) -> None:
    made = [(await upload(client, name=f"set {number}"))["id"] for number in range(3)]
    first = (await client.get("/datasets?limit=2")).json()
    assert [one["id"] for one in first["data"]] == made[:0:-1]
    assert (first["count"], first["totalCount"], first["previous"]) == (2, 3, None)
    second = (await client.get(first["next"])).json()
    assert [one["id"] for one in second["data"]] == made[:1]
    assert second["next"] is None
    assert (await client.get("/datasets/?limit=0")).status_code == 422


async def test_a_deleted_data_set_is_gone_with_its_files(client: httpx.AsyncClient, tmp_path: Path) -> None:
    shown = await upload(client)
    await upload(client, datasetId=shown["id"])
    assert len(kept_files(tmp_path)) == 2
    assert (await client.delete(f"/datasets/{shown['id']}")).status_code == 204
    assert kept_files(tmp_path) == []
    assert (await client.get("/datasets/")).json()["data"] == []
    assert (await client.delete(f"/datasets/{shown['id']}/")).status_code == 404
    assert await refused(client, CSV, datasetId=shown["id"]) == {"datasetId": "Is unknown."}
    assert kept_files(tmp_path) == []


async def test_a_data_set_that_a_task_reads_can_not_be_deleted(api: Api, client: httpx.AsyncClient) -> None:
    shown = await upload(client)
    me = await principal_of(api, client.headers["authorization"].removeprefix("Bearer "))
    task = await begin(api.deps.tasks, me, TaskKind.ACTUALS_FROM_DATA_SET, "d", "Reading", with_records=False)
    assert await api.deps.data_sets.note_reader(shown["id"], task)
    answer = await client.delete(f"/datasets/{shown['id']}/")
    assert (answer.status_code, answer.json()["message"]) == (409, "A task that has not ended reads this data set.")
    await api.deps.tasks.end(task, TaskStatus.COMPLETED, code=0, message=None)
    assert (await client.delete(f"/datasets/{shown['id']}/")).status_code == 204
    assert not await api.deps.data_sets.note_reader(shown["id"], "other")


@pytest.mark.parametrize(
    ("content", "rule"),
    [
        (b"", "The file must begin with a line that names the columns."),
        (b"\n1,2\n", "The file must begin with a line that names the columns."),
        (b"id,y,id\n", "Column 'id' is there twice."),
        (b"\x89PNG\r\n\x1a\n\xff\xfe", "The file is neither Parquet nor text in UTF-8."),
        (b"a\0b,c\n1,2\n", "A column's name holds the character NUL."),
    ],
)
async def test_an_unreadable_file(client: httpx.AsyncClient, tmp_path: Path, content: bytes, rule: str) -> None:
    assert await refused(client, content) == {"file": rule}
    assert kept_files(tmp_path) == []


async def test_broken_parquet_and_other_fields_are_told_at_once(client: httpx.AsyncClient) -> None:
    errors = await refused(client, b"PAR1 but no more", name="", datasetId="x\0y")
    assert errors.keys() == {"file", "name", "datasetId"}
    assert errors["file"].startswith("The file begins like Parquet, but can not be read: ")


async def test_a_form_without_a_file(client: httpx.AsyncClient) -> None:
    answer = await client.post("/datasets/", files={"other": ("f", b"")})
    assert answer.json()["errors"] == {"file": "Is required, as a part with a file name."}
    answer = await client.post("/datasets/", files={"file": (None, b"id\n1\n")})
    assert answer.status_code == 422


@pytest.mark.parametrize(
    ("media_type", "body", "status"),
    [
        ("application/json", b"{}", 415),
        ("text/csv", CSV, 415),
        ("multipart/form-data", b"", 400),
        ("multipart/form-data; boundary=x", b"", 400),
        ("multipart/form-data; boundary=x", b"no form at all", 400),
        ("multipart/form-data; boundary=x", b'--x\r\nContent-Disposition: form-data; name="file"\r\n\r\nabc', 400),
        ("multipart/form-data; boundary=x", b"--x\r\nContent-Disposition: form-data\r\n\r\nabc\r\n--x--\r\n", 400),
        ("multipart/form-data; boundary=x",
         b'--x\r\nContent-Disposition: form-data; name="name"\r\n\r\n\xff\r\n--x--\r\n', 422),
        ("multipart/form-data; boundary=x",
         b'--x\r\nContent-Disposition: form-data; name="a"\r\n\r\n\r\n' * 21 + b"--x--\r\n", 400),
    ],
)  # fmt: skip
async def test_a_body_that_is_no_form(client: httpx.AsyncClient, media_type: str, body: bytes, status: int) -> None:
    answer = await client.post("/datasets/", content=body, headers={"Content-Type": media_type})
    assert answer.status_code == status, answer.text
    assert answer.json()["message"]


def limited(api: Api, most: int) -> Api:
    """The same, where a file may have so many bytes."""
    deps = replace(api.deps, spool=replace(api.deps.spool, max_bytes=most))
    return Api(create_app(deps, version="0"), deps, api.dsn)


async def test_a_file_of_the_limit_passes_and_one_byte_more_is_too_large(api: Api, tmp_path: Path) -> None:
    token = await api.token()
    async with limited(api, len(CSV)).client(token) as client:
        await upload(client)
        answer = await client.post("/datasets/", files={"file": ("f.csv", CSV + b"\n")})
    assert (answer.status_code, answer.json()["message"]) == (413, f"A file must have at most {len(CSV)} bytes.")
    assert len(kept_files(tmp_path)) == 1


async def test_a_large_file_is_refused_before_all_of_it_came(api: Api, tmp_path: Path) -> None:
    sent = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal sent
        yield b'--x\r\nContent-Disposition: form-data; name="file"; filename="f.csv"\r\n\r\nid\n'
        for _ in range(1_000):
            sent += 1
            yield b"1\n" * 50_000

    async with limited(api, 1_000_000).client(await api.token()) as client:
        answer = await client.post(
            "/datasets/", content=endless(), headers={"Content-Type": "multipart/form-data; boundary=x"}
        )
    assert answer.status_code == 413
    assert sent < 20
    assert list((tmp_path / "spool").iterdir()) == []


def resident() -> int:
    """Bytes of memory that this process has of its own, without files that are mapped."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith("RssAnon"))


async def test_memory_does_not_grow_with_the_file(api: Api, client: httpx.AsyncClient) -> None:
    await upload(client)
    before = most = resident()
    lines = b"".join(b"order-%d,0.5\n" % number for number in range(60_000))
    times = (256 << 20) // len(lines)

    async def body() -> AsyncIterator[bytes]:
        nonlocal most
        yield b'--x\r\nContent-Disposition: form-data; name="file"; filename="f.csv"\r\n\r\nid,y\n'
        for _ in range(times):
            for start in range(0, len(lines), 1 << 16):
                yield lines[start : start + (1 << 16)]
            most = max(most, resident())
        yield b"\r\n--x--\r\n"

    uploading = asyncio.create_task(
        client.post(
            "/datasets/", content=body(), headers={"Content-Type": "multipart/form-data; boundary=x"}, timeout=120
        )
    )
    while not uploading.done():  # noqa: ASYNC110
        most = max(most, resident())
        await asyncio.sleep(0.02)
    shown = (await uploading).json()
    assert shown["rows"] == times * 60_000
    assert most - before < 128 << 20


async def test_the_length_that_is_told_is_enough_to_refuse(api: Api) -> None:
    headers = {"Content-Type": "multipart/form-data; boundary=x", "Content-Length": str(1 << 40)}
    async with limited(api, 1_000).client(await api.token()) as client:
        answer = await client.post("/datasets/", content=b"", headers=headers)
    assert answer.status_code == 413


async def test_a_token_that_may_only_read(api: Api, client: httpx.AsyncClient) -> None:
    shown = await upload(client)
    async with api.client(await api.token(scope=Scope.READ)) as reader:
        assert (await reader.get("/datasets/")).json()["data"] == [shown]
        assert (await reader.post("/datasets/", content=b"anything")).status_code == 403
        assert (await reader.delete(f"/datasets/{shown['id']}/")).status_code == 403
        assert (await reader.delete("/datasets/unknown/")).status_code == 404


async def test_data_sets_of_others_are_not_there(api: Api, client: httpx.AsyncClient) -> None:
    shown = await upload(client)
    elsewhere = await api.token(username="bob", organisation="elsewhere")
    confined = await api.token(deployments=["d"])
    for token, status in ((elsewhere, 201), (confined, 403)):
        async with api.client(token) as other:
            assert (await other.get("/datasets/")).json()["totalCount"] == 0
            assert (await other.delete(f"/datasets/{shown['id']}/")).status_code == 404
            answer = await other.post("/datasets/", files={"file": ("f", CSV)}, data={"datasetId": shown["id"]})
            assert answer.status_code == (422 if status == 201 else 403)
            assert (await other.post("/datasets/", files={"file": ("f", CSV)})).status_code == status
    assert (await client.get("/datasets/")).json()["data"] == [shown]


async def test_what_an_upload_left_that_was_cut_off_is_swept(
    api: Api, client: httpx.AsyncClient, tmp_path: Path
) -> None:
    shown = await upload(client)
    orphan, unfinished = tmp_path / "files/data-sets" / ("a" * 24) / "b", tmp_path / "files/data-sets/c#1"
    orphan.parent.mkdir()
    orphan.write_bytes(CSV)
    unfinished.write_bytes(CSV)
    now = api.deps.clock.now()
    assert await sweep(api.deps.data_sets, api.deps.files, now) == 0
    assert len(kept_files(tmp_path)) == 3
    assert await sweep(api.deps.data_sets, api.deps.files, now + timedelta(days=1, minutes=1)) == 1
    assert kept_files(tmp_path) == [tmp_path / "files" / key_of(shown["id"], shown["versionId"])]


async def test_storage_that_is_away_is_told_as_such(api: Api, tmp_path: Path) -> None:
    (tmp_path / "files").write_text("in the way")
    async with api.client(await api.token()) as client:
        answer = await client.post("/datasets/", files={"file": ("f", CSV)})
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
        assert (await client.get("/datasets/")).json()["totalCount"] == 0


async def test_versions_that_are_added_while_the_data_set_is_deleted(api: Api, client: httpx.AsyncClient) -> None:
    """Whichever comes first, no version is listed whose file is gone."""
    shown = await upload(client)
    connection = await asyncpg.connect(api.dsn)
    try:
        transaction = connection.transaction()
        await transaction.start()
        await connection.execute("UPDATE data_sets SET deleted_at = now()")
        late = asyncio.create_task(
            client.post("/datasets/", files={"file": ("f", CSV)}, data={"datasetId": shown["id"]})
        )
        while not await connection.fetchval("SELECT count(*) FROM pg_locks WHERE NOT granted"):  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        await transaction.commit()
        assert (await late).json()["errors"] == {"datasetId": "Was deleted."}
    finally:
        await connection.close()


async def test_the_document_shows_the_form(api: Api) -> None:
    async with api.client(None) as stranger:
        document = (await stranger.get("/openapi.json")).json()
    content = document["paths"]["/datasets/"]["post"]["requestBody"]["content"]
    form = content["multipart/form-data"]["schema"]
    assert form["required"] == ["file"]
    assert form["properties"].keys() == {"file", "name", "datasetId"}
