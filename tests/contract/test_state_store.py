"""`StateStore`: a cache that is consistent with its position, or empty."""

import os
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.adapters.rocksdb import RocksDbStores
from service.ports import StateStore, StateStores, StorePosition, Unavailable

TIMER = b"\x01flights/0000"


def at(version: int) -> StorePosition:
    return StorePosition(incarnation="first", version=version, status_offset=10 * version, saved_at=1_700_000_000.5)


@pytest.fixture
def store(stores: StateStores) -> Iterator[StateStore]:
    store = stores.open(3)
    yield store
    store.close()


def test_a_new_store_is_empty(store: StateStore) -> None:
    assert store.position is None
    assert store.get_many([b"d/a", b"d/b"]) == [None, None]
    assert store.get_many([]) == []
    assert list(store.rows()) == []


def test_what_was_applied_is_found_in_the_order_asked(store: StateStore) -> None:
    store.apply({b"d/a": b"1", b"d/b": b"", b"d/c": b"\x00\xff"}, (), at(1))
    assert store.get_many([b"d/c", b"d/x", b"d/a", b"d/b", b"d/a"]) == [b"\x00\xff", None, b"1", b"", b"1"]
    assert store.get_many((b"d/a",)) == [b"1"]
    assert store.position == at(1)


def test_many_keys_are_answered_in_their_order(store: StateStore) -> None:
    store.apply({b"d/%d" % i: b"%d" % i for i in range(0, 1000, 3)}, (), at(1))
    asked = [(7 * i) % 1000 for i in range(1001)]
    assert store.get_many([b"d/%d" % i for i in asked]) == [None if i % 3 else b"%d" % i for i in asked]


def test_rows_are_overwritten_and_forgotten(store: StateStore) -> None:
    store.apply({b"d/a": b"1", b"d/b": b"1"}, (), at(1))
    store.apply({b"d/a": b"2", b"d/b": None, b"d/never": None}, (), at(2))
    assert store.get_many([b"d/a", b"d/b", b"d/never"]) == [b"2", None, None]
    assert store.position == at(2)


def test_applying_again_changes_nothing(store: StateStore) -> None:
    for _ in range(2):
        store.apply({b"d/a": b"1", b"d/b": None}, [(TIMER, b"d/a")], at(1))
    assert list(store.rows()) == [(b"d/a", b"1")]
    assert store.position == at(1)


def test_a_position_alone_can_be_saved(store: StateStore) -> None:
    store.apply({}, (), at(7))
    assert store.position == at(7)


def test_timers_are_found_by_their_keys_and_are_no_rows(store: StateStore) -> None:
    store.apply({b"d/a": b"1"}, [(TIMER, b"d/a")], at(1))
    assert store.get_many([TIMER]) == [b"d/a"]
    assert list(store.rows()) == [(b"d/a", b"1")]
    store.apply({}, [(TIMER, None)], at(2))
    assert store.get_many([TIMER]) == [None]


def test_timers_are_read_by_range_in_order_and_no_more_than_wanted(store: StateStore) -> None:
    entries = [(TIMER + bytes([number]), b"d/%d" % number) for number in (5, 1, 3, 2, 4)]
    store.apply({TIMER[:1] + b"\xff": b"row"}, entries, at(1))
    assert store.timers(TIMER + b"\x02", TIMER + b"\x05", 9) == sorted(entries)[1:4]
    assert store.timers(TIMER, TIMER + b"\xff", 2) == sorted(entries)[:2]
    assert store.timers(TIMER + b"\x06", TIMER + b"\xff", 2) == []


def test_rows_come_in_key_order_whatever_their_first_byte(store: StateStore) -> None:
    keys = [b"z/1", b".d/1", b"-d/1", b"A/2", b"A/1", b"_/1", "d/\u00fc".encode(), b"0/1"]
    store.apply(dict.fromkeys(keys, b"s"), (), at(1))
    assert [key for key, _ in store.rows()] == sorted(keys)


def test_rows_are_those_at_the_time_of_the_call(store: StateStore) -> None:
    store.apply({b"d/a": b"1", b"d/b": b"1"}, (), at(1))
    rows = store.rows()
    store.apply({b"d/a": b"2", b"d/b": None, b"d/c": b"2"}, (), at(2))
    assert list(rows) == [(b"d/a", b"1"), (b"d/b", b"1")]


def test_a_wiped_store_is_as_new_and_usable(stores: StateStores) -> None:
    store = stores.open(0)
    store.apply({b"d/a": b"1"}, [(TIMER, b"d/a")], at(1))
    store.wipe()
    assert (store.position, list(store.rows()), store.get_many([TIMER])) == (None, [], [None])
    store.apply({b"d/b": b"1"}, (), at(2))
    store.close()
    again = stores.open(0)
    assert (again.position, list(again.rows())) == (at(2), [(b"d/b", b"1")])
    again.close()


def test_everything_is_there_after_reopening(stores: StateStores) -> None:
    store = stores.open(0)
    store.apply({b"d/a": b"1"}, [(TIMER, b"d/a")], at(1))
    store.close()
    again = stores.open(0)
    assert again.position == at(1)
    assert again.get_many([b"d/a", TIMER]) == [b"1", b"d/a"]
    again.close()


def test_closing_frees_the_store_even_where_a_scan_is_unfinished(stores: StateStores) -> None:
    store = stores.open(0)
    store.apply({b"d/a": b"1", b"d/b": b"1"}, (), at(1))
    scan = store.rows()
    assert next(scan) == (b"d/a", b"1")
    store.close()
    stores.open(0).close()


def test_a_store_is_open_once(stores: StateStores) -> None:
    store = stores.open(0)
    with pytest.raises(Unavailable, match="one process at a time"):
        stores.open(0)
    store.close()
    stores.open(0).close()


def test_tasks_do_not_see_each_other(stores: StateStores) -> None:
    one, other = stores.open(1), stores.open(12)
    one.apply({b"d/a": b"1"}, (), at(1))
    assert (other.position, other.get_many([b"d/a"])) == (None, [None])
    assert stores.tasks_on_disk() == {1, 12}
    one.close()
    other.close()


def test_size_grows_with_the_rows(store: StateStore) -> None:
    before = store.size_bytes()
    store.apply({b"d/%d" % i: bytes(100) for i in range(10_000)}, (), at(1))
    assert store.size_bytes() > before + 500_000


Changes = dict[bytes, bytes | None]
KEYS = st.integers(0, 9).map(lambda i: b"d/%d" % i)
STEPS = st.lists(
    st.one_of(
        st.dictionaries(KEYS, st.none() | st.binary(max_size=4), max_size=6), st.sampled_from(["reopen", "wipe"])
    ),
    max_size=20,
)


@settings(max_examples=25)
@given(STEPS)
def test_any_history_ends_as_a_dictionary_would(steps: list[Changes | str]) -> None:
    with TemporaryDirectory() as directory:
        stores = RocksDbStores(Path(directory), cache_bytes=1 << 20)
        store, model, version = stores.open(0), dict[bytes, bytes](), 0
        for step in steps:
            if step == "reopen":
                store.close()
                store = stores.open(0)
            elif step == "wipe":
                store.wipe()
                model, version = {}, 0
            elif isinstance(step, dict):
                version += 1
                store.apply(step, (), at(version))
                model = followed(model, step)
            assert list(store.rows()) == sorted(model.items())
            assert store.position == (at(version) if version else None)
        store.close()


def followed(model: Mapping[bytes, bytes], changes: Changes) -> dict[bytes, bytes]:
    return {key: state for key, state in {**model, **changes}.items() if state is not None}


# ------------------------------------------------------------------------------------------- RocksDB alone


@pytest.fixture
def on_disk(tmp_path: Path) -> RocksDbStores:
    return RocksDbStores(tmp_path, cache_bytes=8 << 20)


@pytest.mark.parametrize("pattern", ["*.sst", "MANIFEST-*", "CURRENT"])
@pytest.mark.parametrize("damage", ["garbage", "missing"])
def test_a_damaged_store_is_opened_empty(on_disk: RocksDbStores, tmp_path: Path, pattern: str, damage: str) -> None:
    store = on_disk.open(0)
    store.apply({b"d/a": b"1"}, (), at(1))
    assert not store.was_damaged
    store.close()
    on_disk.open(0).close()  # writes the log out to a table
    for path in (tmp_path / "task-0").glob(pattern):
        path.unlink() if damage == "missing" else path.write_bytes(os.urandom(2000))
    store = on_disk.open(0)
    assert store.was_damaged
    assert (store.position, list(store.rows())) == (None, [])
    store.apply({b"d/b": b"2"}, (), at(2))
    store.close()
    assert on_disk.open(0).position == at(2)


def test_a_store_of_another_format_is_opened_empty(on_disk: RocksDbStores) -> None:
    store = on_disk.open(0)
    store._db[b"\x00position"] = b"\xc1"
    store.close()
    assert on_disk.open(0).position is None


def test_a_failed_apply_leaves_no_trace(on_disk: RocksDbStores) -> None:
    def timers() -> Iterator[tuple[bytes, bytes]]:
        yield TIMER, b""
        raise RuntimeError

    store = on_disk.open(0)
    store.apply({b"d/a": b"1"}, (), at(1))
    with pytest.raises(RuntimeError):
        store.apply({b"d/a": b"2"}, timers(), at(2))
    assert store.get_many([b"d/a", TIMER]) == [b"1", None]
    assert store.position == at(1)
    store.close()


@contextmanager
def hardly_any_room() -> Iterator[None]:
    """No file of this process may grow above a few KB."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_store_that_finds_no_room_can_be_closed_and_goes_on_from_before(on_disk: RocksDbStores) -> None:
    store = on_disk.open(0)
    store.apply({b"d/a": b"1"}, (), at(1))
    with hardly_any_room():
        with pytest.raises(Unavailable):
            store.apply({b"d/%d" % i: b"2" * 100 for i in range(1000)}, (), at(2))
        store.close()
        store.close()
    again = on_disk.open(0)
    assert again.position == at(1)
    assert list(again.rows()) == [(b"d/a", b"1")]
    assert not again.was_damaged
    again.close()


def test_leftovers_of_an_interrupted_wipe_are_no_task(on_disk: RocksDbStores, tmp_path: Path) -> None:
    (tmp_path / "task-4.wiped").mkdir()
    (tmp_path / "task-4").mkdir()
    store = on_disk.open(4)
    store.wipe()
    store.close()
    assert on_disk.tasks_on_disk() == {4}
    assert [path.name for path in tmp_path.iterdir()] == ["task-4"]


CHILD = """
import os, sys
from pathlib import Path
from service.adapters.rocksdb import RocksDbStores
from service.ports import StorePosition
store = RocksDbStores(Path(sys.argv[1]), cache_bytes=1 << 20).open(0)
version = 0
while True:
    version += 1
    rows = {b"d/%d" % i: b"%d" % version for i in range(300)}
    store.apply(rows, (), StorePosition("first", version, version, 0.0))
    if version == 20:
        print("ready", flush=True)
"""


def test_a_kill_leaves_the_rows_of_one_position(on_disk: RocksDbStores, tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", CHILD, str(tmp_path)], stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"ready\n"
        with pytest.raises(Unavailable, match="one process at a time"):
            on_disk.open(0)
        child.send_signal(signal.SIGKILL)
    store = on_disk.open(0)
    assert store.position is not None
    assert store.position.version >= 20
    assert {state for _, state in store.rows()} == {b"%d" % store.position.version}
    store.close()
