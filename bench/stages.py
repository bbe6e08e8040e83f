"""Puts a stopwatch around the steps of the pipeline, from outside: the product carries no measuring code.

`STAGES` is the one list of what is timed. A step that is not there any more is left out and told in `missing`.
"""

import time
from collections import defaultdict
from collections.abc import Callable
from importlib import import_module
from typing import Any, Final

STAGES: Final = (
    ("service.adapters.kafka.fetched", "_records_of", "poll: parse Kafka records"),
    ("service.pipeline.decode:Decoder", "decode", "decode"),
    ("service.pipeline.flow", "assign", "assign (with features)"),
    ("service.adapters.rocksdb.store:RocksDbStore", "get_many", "store: multi-get"),
    ("service.pipeline.join:Joiner", "join", "join"),
    ("service.pipeline.flow", "aggregate", "aggregate"),
    ("service.pipeline.flow", "advance_clocks", "aggregate"),
    ("service.pipeline.publish", "status_columns", "statuses"),
    ("service.pipeline.flow", "encode", "encode and compress (with statuses)"),
    ("service.adapters.postgres.ledger", "_prediction_columns", "persist: rows for Postgres"),
    ("service.adapters.postgres.ledger", "_accuracy_columns", "persist: rows for Postgres"),
    ("service.pipeline.flow", "packed_timers", "store: timers"),
    ("service.adapters.rocksdb.store:RocksDbStore", "apply", "store: write"),
    ("service.adapters.kafka.ready_batch:ReadyBatch", "_build", "publish: batch headers"),
)
"""Owner (module, or module and class), function, and the stage that it belongs to."""


class Stopwatch:
    """CPU seconds of the event loop's thread, by stage."""

    def __init__(self) -> None:
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self.missing: list[str] = []

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
    for place, name, stage in STAGES:
        try:
            owner = _owner(place)
            watch.around(owner, name, stage)
        except (AttributeError, ImportError):
            watch.missing.append(f"{place}.{name}")
    return watch


def _owner(place: str) -> Any:
    module, _, inside = place.partition(":")
    owner: Any = import_module(module)
    return getattr(owner, inside) if inside else owner
