"""The peer `quix`: the as-of join of Quix Streams. Run by the Python of its own environment; see `catalog.py`.

An actual finds its prediction, the last one with its key; a prediction without an actual gives nothing. Predictions
alone are kept, which makes this the cheaper of the two stream joins that Quix has.

Arguments: servers, topics of predictions, actuals and joined records, group, directory for the state, days that a
prediction waits. Prints "first" when the first actual has been looked up.
"""

import sys
from datetime import timedelta
from typing import Any

from quixstreams import Application


def main() -> None:
    servers, predictions, actuals, joined, group, state, days = sys.argv[1:]
    application = Application(
        broker_address=servers,
        consumer_group=group,
        auto_offset_reset="earliest",
        state_dir=state,
        loglevel="WARNING",
        producer_extra_config={"acks": "all", "linger.ms": 100, "batch.size": 1000000, "compression.type": "none"},
    )
    begun = False

    def merge(actual: dict[str, Any], prediction: dict[str, Any] | None) -> dict[str, Any]:
        nonlocal begun
        if not begun:
            begun = True
            print("first", flush=True)
        return {
            **(prediction or {}),
            "associationId": actual["associationId"],
            "actual": actual["actual"],
            "actualTimestamp": actual["timestamp"],
        }

    predicted = application.dataframe(application.topic(predictions, value_deserializer="json"))
    truth = application.dataframe(application.topic(actuals, value_deserializer="json"))
    both = truth.join_asof(predicted, how="left", on_merge=merge, grace_ms=timedelta(days=int(days)))
    both.to_topic(application.topic(joined, value_serializer="json"))
    application.run()


if __name__ == "__main__":
    main()
