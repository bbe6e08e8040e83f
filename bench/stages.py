"""Puts a stopwatch around the steps of the pipeline, from outside: the product carries no measuring code."""

import time
from collections import defaultdict
from collections.abc import Callable
from typing import Any

from service.adapters.kafka import fetched
from service.adapters.kafka.ready_batch import ReadyBatch
from service.adapters.postgres import ledger
from service.adapters.rocksdb.store import RocksDbStore
from service.pipeline import flow
from service.pipeline.decode import Decoder
from service.pipeline.join import Joiner


class Stopwatch:
    """CPU seconds of the event loop's thread, by stage."""

    def __init__(self) -> None:
        self.seconds: defaultdict[str, float] = defaultdict(float)

    def around(self, owner: Any, name: str, stage: str) -> None:
        """Time every call of `owner.name`, a function that does not await."""
        step: Callable[..., Any] = getattr(owner, name)

        def timed(*args: Any, **kwargs: Any) -> Any:
            started = time.thread_time()
            try:
                return step(*args, **kwargs)
            finally:
                self.seconds[stage] += time.thread_time() - started

        setattr(owner, name, timed)


def watch_pipeline() -> Stopwatch:
    """A stopwatch on every stage. Call it before the worker starts."""
    watch = Stopwatch()
    watch.around(fetched, "_taken", "poll: parse Kafka records")
    watch.around(Decoder, "decode", "decode")
    watch.around(flow, "assign", "assign (with features)")
    watch.around(RocksDbStore, "get_many", "store: multi-get")
    watch.around(Joiner, "join", "join")
    watch.around(flow, "aggregate", "aggregate")
    watch.around(flow, "advance_clocks", "aggregate")
    watch.around(flow, "status_records", "statuses")
    watch.around(flow, "encode", "encode and compress")
    watch.around(flow, "pack_slot", "slot")
    watch.around(ledger, "_prediction_columns", "persist: rows for Postgres")
    watch.around(ledger, "_accuracy_columns", "persist: rows for Postgres")
    watch.around(flow, "packed_timers", "store: timers")
    watch.around(RocksDbStore, "apply", "store: write")
    watch.around(ReadyBatch, "_build", "publish: batch headers")
    return watch
