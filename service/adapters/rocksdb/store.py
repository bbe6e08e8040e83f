"""The state store in RocksDB, one database per task, `task-<i>`; a cache that may vanish at any time.

Keys
----
First byte 0x00: what the store knows of itself (its position). First byte 0x01: timers. Above: rows. So a scan of the
rows starts at 0x02 and needs no filter.

Crashes
-------
Rows, timers and position go into one write batch, hence into one record of the write-ahead log, which is kept but not
synced. After a kill nothing is missing; after a power failure the log ends earlier (`point_in_time` recovery stops at
the first hole), so the store is as it was at some earlier position: older, never torn, and replay makes up for it. A
wipe renames the directory before it deletes anything, because a half-deleted log could have a hole in its middle.

Damage found on opening empties the store. Damage found later leaves a mark and fails; the next opening empties it.

Memory: one block cache for all tasks holds blocks, indexes and filters, and is charged with the write buffers.
"""

import logging
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import islice, takewhile
from pathlib import Path
from typing import Any
from weakref import WeakSet

import msgspec
from rocksdict import (
    BlockBasedOptions,
    Cache,
    DataBlockIndexType,
    DbClosedError,
    DBCompressionType,
    DBRecoveryMode,
    Options,
    Rdict,
    WriteBatch,
    WriteBufferManager,
    WriteOptions,
)

from service.ports import StorePosition, Unavailable

_POSITION = b"\x00position"
_FIRST_ROW = b"\x02"
_DIRECTORY = re.compile(r"task-(\d+)")
_MARK = "DAMAGED"
_DAMAGE = re.compile(r"Corruption|Invalid argument|Not implemented|No such file or directory")
_LOCK = re.compile(r"lock hold by current process|While lock file")
_MIB = 1 << 20
_ASKED_AT_ONCE = 64
"""Keys of one request: RocksDB sorts them, which for thousands takes longer than to find that most are not there."""

_log = logging.getLogger(__name__)
_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(StorePosition).decode


class StoreLocked(Unavailable):
    """The state store is in use, by another process or by a task of this one that has not closed it yet."""


class StoreDamaged(Exception):
    """The state store can not be read. The next opening empties it; then it is restored from the status topic."""


class RocksDbStores:
    """All stores below one directory; together they use about `cache_bytes` of memory."""

    def __init__(self, directory: Path, cache_bytes: int) -> None:
        self._directory = directory
        directory.mkdir(parents=True, exist_ok=True)
        cache = Cache(cache_bytes)
        buffers = WriteBufferManager.new_write_buffer_manager_with_cache(cache_bytes // 4, False, cache)
        self._options = _options(cache, buffers, write_buffer=max(_MIB, min(16 * _MIB, cache_bytes // 8)))

    def open(self, task: int) -> "RocksDbStore":
        return RocksDbStore(self._directory / f"task-{task}", self._options)

    def tasks_on_disk(self) -> frozenset[int]:
        found = (_DIRECTORY.fullmatch(path.name) for path in self._directory.iterdir() if path.is_dir())
        return frozenset(int(match[1]) for match in found if match)


class RocksDbStore:
    """One task's rows and timers. One thread at a time."""

    def __init__(self, path: Path, options: Options) -> None:
        self._path = path
        self._options = options
        self._in_key_order = WriteOptions()
        self._in_key_order.memtable_insert_hint_per_batch = True
        self._scans: WeakSet[_Scan] = WeakSet()
        self.was_damaged = False
        """Whether damage was found on opening, so that everything was forgotten."""
        self._db, self._position = self._opened()

    @property
    def position(self) -> StorePosition | None:
        return self._position

    def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
        states: list[bytes | None] = []
        with self._faults():
            for first in range(0, len(keys), _ASKED_AT_ONCE):
                states += self._db.get(list(keys[first : first + _ASKED_AT_ONCE]))
        return states

    def apply(
        self, rows: Mapping[bytes, bytes | None], timers: Iterable[tuple[bytes, bytes | None]], position: StorePosition
    ) -> None:
        batch = WriteBatch(raw_mode=True)
        put, delete = batch.put, batch.delete
        for key in sorted(rows):  # neighbours are inserted faster
            state = rows[key]
            if state is None:
                delete(key)
            else:
                put(key, state)
        for key, packed in timers:
            if packed is None:
                delete(key)
            else:
                put(key, packed)
        put(_POSITION, _encode(position))
        with self._faults():
            self._db.write(batch, self._in_key_order)
        self._position = position

    def timers(self, first: bytes, end: bytes, most: int) -> list[tuple[bytes, bytes]]:
        with self._faults():
            entries = takewhile(lambda entry: entry[0] < end, self._db.items(from_key=first))
            return list(islice(entries, most))

    def rows(self) -> Iterator[tuple[bytes, bytes]]:
        with self._faults():
            scan = _Scan(self._db.snapshot().items(from_key=_FIRST_ROW))
        self._scans.add(scan)
        return scan

    def wipe(self) -> None:
        self.close()
        _remove(self._path)
        self._db, self._position = self._opened()

    def size_bytes(self) -> int:
        """Live data in files and write buffers."""
        sizes = ("rocksdb.estimate-live-data-size", "rocksdb.cur-size-all-mem-tables")
        return sum(self._db.property_int_value(size) or 0 for size in sizes)

    def close(self) -> None:
        """Gives the lock back; iterators of `rows` end, since each would hold on to it. Closing again does nothing."""
        for scan in list(self._scans):
            scan.close()
        try:
            self._db.close()
        except DbClosedError:
            return
        except Exception as error:
            if type(error) is not Exception:
                raise
            # closed all the same: what a full disk did not take is replayed
            _log.warning("state store did not take everything: %s", error, extra={"path": str(self._path)})

    def _opened(self) -> tuple[Rdict, StorePosition | None]:
        try:
            return self._open_and_read()
        except StoreDamaged as error:
            _log.warning("state store emptied: %s", error, extra={"path": str(self._path)})
            self.was_damaged = True
            _remove(self._path)
            return self._open_and_read()

    def _open_and_read(self) -> tuple[Rdict, StorePosition | None]:
        if (self._path / _MARK).exists():
            raise StoreDamaged(f"{self._path} was found damaged while in use")
        with self._faults(mark=False):
            db = Rdict(str(self._path), self._options)
        try:
            with self._faults(mark=False):
                stored = db.get(_POSITION)
            return db, None if stored is None else _decode(stored)
        except (StoreDamaged, msgspec.MsgspecError) as error:
            db.close()
            raise StoreDamaged(f"{self._path}: {error}") from error

    @contextmanager
    def _faults(self, *, mark: bool = True) -> Iterator[None]:
        """Says in our words what RocksDB says in one exception type and English."""
        try:
            yield
        except Exception as error:
            if type(error) is not Exception:  # a fault of RocksDB is nothing more special
                raise
            text = str(error)
            if _LOCK.search(text):
                raise StoreLocked(f"{self._path} is in use: one process at a time ({text})") from error
            if not _DAMAGE.search(text):
                raise Unavailable(f"{self._path}: {text}") from error
            if mark:
                (self._path / _MARK).touch()
            raise StoreDamaged(f"{self._path}: {text}") from error


class _Scan(Iterator[tuple[bytes, bytes]]):
    """Iterates a snapshot, which keeps the database and its lock alive until `close` or the end."""

    def __init__(self, items: Iterator[tuple[bytes, bytes]]) -> None:
        self._items: Iterator[tuple[bytes, bytes]] = items

    def __next__(self) -> tuple[bytes, bytes]:
        try:
            return next(self._items)
        except StopIteration:
            self.close()
            raise

    def close(self) -> None:
        self._items = iter(())


def _remove(path: Path) -> None:
    doomed = path.with_name(f"{path.name}.wiped")
    shutil.rmtree(doomed, ignore_errors=True)
    path.rename(doomed)
    shutil.rmtree(doomed)


def _options(cache: Any, buffers: Any, write_buffer: int) -> Options:
    options = Options(raw_mode=True)
    options.create_if_missing(True)
    options.set_block_based_table_factory(_tables(cache))
    options.set_write_buffer_manager(buffers)
    options.set_write_buffer_size(write_buffer)
    options.set_max_total_wal_size(4 * write_buffer)
    options.set_wal_recovery_mode(DBRecoveryMode.point_in_time())
    options.set_allow_concurrent_memtable_write(False)  # one writer
    options.set_memtable_prefix_bloom_ratio(0.05)  # most predictions are new: misses must be cheap
    options.set_memtable_whole_key_filtering(True)
    options.set_compression_type(DBCompressionType.lz4())
    options.set_max_background_jobs(2)
    options.set_max_open_files(256)
    options.set_keep_log_file_num(2)
    options.set_max_log_file_size(_MIB)
    options.set_stats_dump_period_sec(0)
    return options


def _tables(cache: Any) -> BlockBasedOptions:
    tables = BlockBasedOptions()
    tables.set_block_cache(cache)
    tables.set_cache_index_and_filter_blocks(True)
    tables.set_pin_l0_filter_and_index_blocks_in_cache(True)
    tables.set_bloom_filter(10, False)
    tables.set_data_block_index_type(DataBlockIndexType.binary_and_hash())
    tables.set_data_block_hash_ratio(0.75)
    return tables
