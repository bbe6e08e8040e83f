"""What a schedule sends: deployments with all their policies, and records of every kind, as a producer writes them.

Spans are short, values are few and rows are few, so that records of one row meet often and in every way. Nothing here
comes from the service; `Rules` say what a deployment is to the oracle.
"""

import json
import random
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Literal, NamedTuple

HOUR = timedelta(hours=1)
MINUTE = timedelta(minutes=1)
Topic = Literal["predictions", "actuals"]
EDGES = (10.0, 20.0)
VALUES = ("AA", "UA")
BREAKING = "boom"
"""A row whose records break a stage, as a fault of ours might make them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """One deployment at one moment."""

    id: str
    regression: bool = False
    window: timedelta = 2 * HOUR
    grace: timedelta = 4 * HOUR
    early_ttl: timedelta = 3 * HOUR
    allowed_lateness: timedelta = 10 * MINUTE
    max_future_skew: timedelta = 5 * MINUTE
    late: str = "correct"
    by_arrival: bool = False
    association_required: bool = False
    batch_enabled: bool = True
    policy: str = "none"


DEPLOYMENTS = (
    Rules(id="binary"),
    Rules(id="number", regression=True, late="record", by_arrival=True, batch_enabled=False),
    Rules(id="hourly", late="reject", policy="hourly", association_required=True, window=HOUR, grace=2 * HOUR),
)


class Sent(NamedTuple):
    """One record to produce. `row` decides its partition; a stray goes to another."""

    topic: Topic
    value: bytes
    key: str | None
    stray: bool
    headers: tuple[tuple[str, bytes], ...]
    timestamp_ms: int


class Workload:
    """Draws records. Event times follow the wall clock, some behind it and a few ahead."""

    def __init__(self, chance: random.Random) -> None:
        self.chance = chance
        self.rows = [f"r{number}" for number in range(chance.choice([3, 8, 20]))]
        self.batches: list[tuple[str, str]] = []
        """(deployment, ID) of batches that the API has opened."""
        self.recent: list[Sent] = []
        self._submissions = 0

    def draw(self, now: datetime) -> Sent:
        if self.recent and self.chance.random() < 0.16:  # a producer that tries again
            return self.chance.choice(self.recent)._replace(timestamp_ms=_ms(now))
        roll = self.chance.random()
        if roll < 0.03:
            sent = self._poison(now)
        elif roll < 0.55:
            sent = self._prediction(now)
        else:
            sent = self._actual(now)
        self.recent = [*self.recent[-30:], sent]
        return sent

    # ---------------------------------------------------------------- kinds

    def _prediction(self, now: datetime) -> Sent:
        chance, rules = self.chance, self._deployment()
        row: str | None = self._row()
        event: dict[str, Any] = {"deploymentId": rules.id, "timestamp": _text(self._at(now))}
        if chance.random() < 0.06:
            row = None
        event |= {"associationId": row} if row else {}
        if rules.regression:
            event["prediction"] = chance.choice([1, 2.5, 4])
        else:
            event["prediction"] = chance.choice(
                [{"late": 0.75, "on_time": 0.25}, {"late": 0.25, "on_time": 0.75}, "late"]
            )
        if chance.random() < 0.03:
            event["prediction"] = "nonsense" if rules.regression else 7
        if chance.random() < 0.3:
            event["modelId"] = chance.choice(["model-1", "m2"])
        if chance.random() < 0.5:
            event["features"] = {"distance": chance.choice([5, 15, 25, None]), "carrier": chance.choice(["UA", "DL"])}
        event |= self._batch(rules)
        return self._sent("predictions", event, row, now)

    def _batch(self, rules: Rules) -> dict[str, str]:
        roll = self.chance.random()
        if roll < 0.25:
            return {"batchName": self.chance.choice(["x", "y"])}
        opened = [batch for name, batch in self.batches if name == rules.id]
        if roll < 0.5 and opened:
            return {"batchId": self.chance.choice(opened)}
        return {"batchId": "nowhere"} if roll < 0.52 else {}

    def _actual(self, now: datetime) -> Sent:
        chance, rules = self.chance, self._deployment()
        row = self._row()
        values: list[Any] = [1, 2, 3, None] if rules.regression else ["late", "on_time", None]
        if chance.random() < 0.03:
            values = ["nonsense"]
        event = {
            "deploymentId": rules.id,
            "associationId": row,
            "timestamp": _text(self._at(now)),
            "actual": chance.choice(values),
        }
        if chance.random() < 0.1:
            event["keepWithoutPrediction"] = False
        return self._sent("actuals", event, row, now)

    def _poison(self, now: datetime) -> Sent:
        chance = self.chance
        topic: Topic = chance.choice(["predictions", "actuals"])
        values = [
            b"\xff\x00",
            b"[]",
            b'{"associationId": "r1"}',
            b'{"deploymentId": "nobody", "associationId": "r1", "prediction": 1, "actual": 1}',
            b'{"deploymentId":"binary","associationId":"r1","prediction":"late","actual":"late","timestamp":"?"}',
        ]
        return Sent(topic, chance.choice(values), "r1", chance.random() < 0.1, (), _ms(now))

    # ---------------------------------------------------------------- parts

    def _deployment(self) -> Rules:
        return self.chance.choice(DEPLOYMENTS)

    def _row(self) -> str:
        return BREAKING if self.chance.random() < 0.02 else self.chance.choice(self.rows)

    def _at(self, now: datetime) -> datetime:
        roll = self.chance.random()
        if roll < 0.02:
            return now + HOUR
        span = timedelta(minutes=self.chance.choice([0, 1, 5, 30, 90]))
        return (now - span).replace(microsecond=0)

    def _sent(self, topic: Topic, event: Mapping[str, Any], row: str | None, now: datetime) -> Sent:
        headers: tuple[tuple[str, bytes], ...] = ()
        if self.chance.random() < 0.1:
            self._submissions += 1
            headers = (("hindsight-submission-id", self.chance.choice([b"s1", b"s2"])),)
            if row is None:
                headers += (("hindsight-row-number", b"%d" % self._submissions),)
        if topic == "predictions" and self.chance.random() < 0.05:
            headers += (("hindsight-skip-drift-tracking", b"true"),)
        value = json.dumps(event, separators=(",", ":")).encode()
        return Sent(topic, value, row, self.chance.random() < 0.12, headers, _ms(now))


def changed(rules: Rules, chance: random.Random) -> Rules:
    """The deployment after a person has changed a policy."""
    match chance.randrange(5):
        case 0:
            return replace(rules, late=chance.choice(["correct", "record", "reject"]))
        case 1:
            return replace(rules, window=chance.choice([HOUR, 2 * HOUR]), grace=chance.choice([HOUR, 4 * HOUR]))
        case 2:
            return replace(rules, association_required=not rules.association_required)
        case 3:
            return replace(rules, by_arrival=not rules.by_arrival)
        case _:
            return replace(rules, policy=chance.choice(["none", "hourly"]))


def _text(at: datetime) -> str:
    return at.astimezone(UTC).isoformat().replace("+00:00", "Z")


def _ms(at: datetime) -> int:
    return round(at.timestamp() * 1000)
