"""Files in a directory and in a bucket: one behaviour."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from obstore.store import MemoryStore

from service.adapters.clock import SystemClock
from service.adapters.objects.files import ObjectFiles, open_files
from service.ports import Unavailable
from service.usecases.files import Spool

LONG_AGO = datetime(2000, 1, 1, tzinfo=UTC)


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    return Spool(directory=tmp_path / "spool", max_bytes=1 << 30)


@pytest.fixture(params=["directory", "bucket"])
def files(request: pytest.FixtureRequest, tmp_path: Path, spool: Spool) -> ObjectFiles:
    if request.param == "bucket":
        return ObjectFiles(MemoryStore(), Path(), spool)
    return open_files(str(tmp_path / "files"), spool)


async def test_what_was_put_is_read_until_it_is_deleted(files: ObjectFiles, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(b"0123456789" * 2_000_000)
    await files.put("a/b", source)
    async with files.open("a/b") as path:
        assert path.read_bytes() == source.read_bytes()
    later = SystemClock().now() + timedelta(days=1)
    assert await files.keys_before(later) == ["a/b"]
    assert await files.keys_before(LONG_AGO) == []
    await files.delete("a/b")
    await files.delete("a/b")
    assert await files.keys_before(later) == []


async def test_a_file_that_is_put_again_is_replaced(files: ObjectFiles, tmp_path: Path) -> None:
    source = tmp_path / "source"
    for content in (b"long, long", b"short"):
        source.write_bytes(content)
        await files.put("a", source)
    async with files.open("a") as path:
        assert path.read_bytes() == b"short"


async def test_nothing_is_left_in_the_spool(tmp_path: Path, spool: Spool) -> None:
    files = ObjectFiles(MemoryStore(), Path(), spool)
    source = tmp_path / "source"
    source.write_bytes(b"content")
    await files.put("a", source)
    async with files.open("a") as path:
        assert path.exists()
        assert list(spool.directory.iterdir()) == []
    assert not path.exists()


async def test_a_bucket_without_the_file(spool: Spool) -> None:
    with pytest.raises(Unavailable, match="files: "):
        async with ObjectFiles(MemoryStore(), Path(), spool).open("a"):
            pass


def test_addresses(tmp_path: Path, spool: Spool) -> None:
    open_files("s3://bucket/path", spool)
    open_files(f"file://{tmp_path}/files", spool)
    assert not (tmp_path / "files").exists()
    with pytest.raises(Unavailable, match="files: "):
        open_files("nonsense://bucket", spool)
