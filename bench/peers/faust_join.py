"""The peer `faust`: two agents and their tables in RocksDB, one for predictions, one for actuals that came early.

Arguments: servers, topics of predictions, actuals and joined records, group, directory for the state. Prints "first"
once the first record has come in.
"""

import sys
from pathlib import Path
from typing import Any

import faust


def application(servers: str, predictions: str, actuals: str, joined: str, group: str, state: str) -> Any:
    app = faust.App(
        group,
        broker=f"kafka://{servers}",
        store="rocksdb://",
        datadir=Path(state),
        topic_partitions=4,
        topic_replication_factor=1,
        topic_disable_leader=True,
        web_enabled=False,
        stream_wait_empty=False,
        stream_buffer_maxsize=32_768,
        consumer_max_fetch_size=4 << 20,
        broker_commit_every=50_000,
        broker_commit_interval=5.0,
        producer_acks=-1,
        producer_linger=0.1,
        producer_max_batch_size=1 << 19,
    )
    predicted = app.topic(predictions, key_type=str, key_serializer="raw", value_serializer="json")
    truth = app.topic(actuals, key_type=str, key_serializer="raw", value_serializer="json")
    both = app.topic(joined, key_type=str, key_serializer="raw", value_serializer="json")
    waiting = app.Table("waiting", key_type=str, partitions=4)
    early = app.Table("early", key_type=str, partitions=4)
    begun, said = False, sys.stdout  # before Faust redirects it to its log

    async def join(key: str, prediction: dict[str, Any], actual: dict[str, Any]) -> None:
        value = {**prediction, "actual": actual["actual"], "actualTimestamp": actual["timestamp"]}
        await both.send(key=key, value=value)

    async def keep(stream: Any) -> None:
        nonlocal begun
        async for key, prediction in stream.items():
            if not begun:
                begun = True
                print("first", file=said, flush=True)
            waiting[key] = prediction
            actual = early.get(key)
            if actual is not None:
                await join(key, prediction, actual)

    async def meet(stream: Any) -> None:
        async for key, actual in stream.items():
            prediction = waiting.get(key)
            if prediction is None:
                early[key] = actual
            else:
                await join(key, prediction, actual)

    app.agent(predicted)(keep)
    app.agent(truth)(meet)
    return app


def main() -> None:
    app = application(*sys.argv[1:])
    sys.argv[1:] = ["worker", "--loglevel", "warn", "--without-web"]
    app.main()


if __name__ == "__main__":
    main()
