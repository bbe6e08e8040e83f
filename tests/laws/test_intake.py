"""What is posted and passes becomes events that the pipeline takes; what it would refuse does not pass."""

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.api.core.bodies import BadBody
from service.api.core.row_bodies import RowsBody
from service.api.datarobot import actuals, prediction_inputs
from service.domain.deployment import Deployment, JoinSpec, TargetType
from service.domain.errors import Invalid
from service.domain.ids import home_of
from service.domain.records import OutRecord, Topic
from service.pipeline import decode
from service.pipeline.assign import Assigned, assign
from service.pipeline.decode import Decoder
from service.pipeline.registry import Known
from service.ports import Polled
from service.usecases import prediction_intake
from service.usecases.intake import Entry, IntakeFacts, IntakeKind, Submission, outgoing
from service.usecases.submissions import Content, PostedPredictions
from service.wire.events import ServiceFigures
from tests.builders import deployment, regression
from tests.laws.wire_events import FIGURES, OBJECT_ID, SCALAR, TEXT, Arrived

NOW: Final = datetime(2026, 5, 6, 17, 0, 0, 123_456, tzinfo=UTC)
PARTITIONS: Final = 4
KNOWN_CLASSES: Final = ("on_time", "late", "1", "0.5", "-3", "1000000000000000000000")
JOIN: Final = JoinSpec(max_future_skew=timedelta(minutes=5))
DEPLOYMENTS: Final = {
    "regression": regression(join=JOIN),
    "binary": deployment(join=JOIN),
    "classes": deployment(
        target_type=TargetType.MULTICLASS,
        class_index={label: index for index, label in enumerate(KNOWN_CLASSES)},
        association_required=True,
        join=JOIN,
    ),
    "endless": deployment(join=JoinSpec(max_future_skew=timedelta(days=9_999_999))),
}
BODIES: Final[dict[IntakeKind, RowsBody[Any, Any]]] = {
    IntakeKind.ACTUALS: actuals._BODY,
    IntakeKind.PREDICTIONS: prediction_inputs._BODY,
}

AROUND_NOW: Final = st.integers(-1_000_000_000, 1_000_000_000).map(lambda us: NOW + timedelta(microseconds=us))
AT_THE_EDGE: Final = st.sampled_from([-1_000, -1, 0, 1, 1_000, 900_000, 60_000_000]).map(
    lambda us: NOW + JOIN.max_future_skew + timedelta(microseconds=us)
)
INSTANT: Final = (st.datetimes(timezones=st.just(UTC)) | AROUND_NOW | AT_THE_EDGE).map(
    datetime.isoformat
) | st.sampled_from(
    ["2026-01-01T00:00:01Z", "2026-01-01t00:00:01z", "2026-01-01 00:00", "2026-01-01T00:00:01", "1969-12-31T23:59:59Z"]
    + ["2026-01-01T00:00:01.123456789+01:00", "9999-12-31T23:59:59-01:00", "0001-01-01T00:00:00+01:00", "2026", "soon"]
)
NAME: Final = TEXT | st.sampled_from(["a", "job:1", "submission:x:1", "record:", "x" * 128, "x" * 129])
LABEL: Final = st.sampled_from(KNOWN_CLASSES) | TEXT
SHARES: Final = st.lists(
    st.fixed_dictionaries({"className": LABEL, "value": st.floats(0, 1) | SCALAR}, optional={"other": SCALAR}),
    max_size=3,
)
GOOD_SHARES: Final = (st.floats(0, 1) | st.sampled_from([1.0000001, 1.4, -1e-300, 2])).map(
    lambda share: [{"className": "late", "value": share}, {"className": "on_time", "value": 0.5}]
)
FEATURES: Final = st.none() | st.dictionaries(TEXT, SCALAR | st.just([1]), max_size=4)
OF_ACTUALS: Final[dict[str, st.SearchStrategy[Any]]] = {
    "associationId": NAME,
    "actualValue": st.sampled_from([*KNOWN_CLASSES, 1, 0.5, -3, 10**21]) | SCALAR,
    "timestamp": INSTANT | st.none(),
    "wasActedOn": st.none() | st.booleans(),
    "other": SCALAR,
}
OF_PREDICTIONS: Final[dict[str, st.SearchStrategy[Any]]] = {
    "prediction": GOOD_SHARES | SHARES | SCALAR,
    "associationId": NAME | st.none(),
    "timestamp": INSTANT | st.none(),
    "features": FEATURES,
    "service": st.none() | FIGURES,
}


def rows_of(
    fields: dict[str, st.SearchStrategy[Any]], good: dict[str, st.SearchStrategy[Any]]
) -> st.SearchStrategy[dict[str, Any]]:
    """Good rows of which at most one field is anything, and rows that are anything."""
    nearly = st.sampled_from(sorted(fields)).flatmap(lambda name: st.fixed_dictionaries(good | {name: fields[name]}))
    optional = {name: values for name, values in fields.items() if name not in good}
    return nearly | st.fixed_dictionaries({name: fields[name] for name in good}, optional=optional)


GOOD_VALUE: Final = st.floats(-9, 9) | st.sampled_from(["late", "on_time"])
PREDICTED: Final = st.floats(-9, 9) | st.just([{"className": "late", "value": 1}, {"className": "on_time", "value": 0}])
ACTUAL: Final = rows_of(OF_ACTUALS, {"associationId": st.just("a"), "actualValue": GOOD_VALUE})
PREDICTION: Final = rows_of(OF_PREDICTIONS, {"associationId": st.just("a"), "prediction": PREDICTED})
ROWS: Final[dict[IntakeKind, st.SearchStrategy[dict[str, Any]]]] = {
    IntakeKind.ACTUALS: ACTUAL,
    IntakeKind.PREDICTIONS: PREDICTION,
}


def submission(to: Deployment, **facts: Any) -> Submission:
    known: dict[str, Any] = {"association_columns": ["id"], "ids_generated": False, "batch": None} | facts
    return Submission(id="66a0f1c2d3e4b5a697887766", facts=IntakeFacts(deployment=to, **known), received_at=NOW)


def read(kind: IntakeKind, raw: bytes) -> tuple[Content, Mapping[str, str]]:
    """As the request is read, and what is wrong with the types."""
    body = BODIES[kind]
    try:
        return body._quickly(raw)[0], {}
    except ValueError:
        content, _, problems = body._read(raw)
        return content, problems


def assigned(to: Deployment, records: Sequence[OutRecord]) -> Assigned:
    """What the task at home there makes of them."""
    polled: dict[str, list[Arrived]] = {}
    for offset, record in enumerate(records):
        assert record.partition == 0
        polled.setdefault(record.topic, []).append(
            Arrived(record.value, offset, record.timestamp, record.key, record.headers)
        )
    decoded = Decoder(0, 1, "monitoring").decode(Polled(polled, {}), {})
    assert not decoded.strays
    return assign(decoded, Known(deployments={to.id: to}))


def refusals(result: Assigned) -> list[str]:
    at_the_row = [str(reason) for reason, _ in result.refusal.values()]
    return [str(one.reason) for one in (*result.refused, *result.unknown)] + at_the_row


@pytest.mark.parametrize("kind", IntakeKind)
@pytest.mark.parametrize("name", DEPLOYMENTS)
@settings(max_examples=150)
@given(data=st.data())
def test_a_row_that_passes_is_refused_nowhere(kind: IntakeKind, name: str, data: st.DataObject) -> None:
    to = DEPLOYMENTS[name]
    rows: list[Any] = data.draw(st.lists(ROWS[kind], min_size=1, max_size=4))
    try:
        content, problems = read(kind, json.dumps({"data": rows}).encode())
    except BadBody as bad:
        assert bad.fields
        return
    into = submission(to)
    chunk = content.check(into)
    entries = content.served(chunk.entries, ServiceFigures(outcome="ok")) if chunk.entries else []
    result = assigned(to, outgoing(kind, into, entries, 1))
    assert refusals(result) == []
    assert len(result.predictions.row_id) + len(result.actuals.row_id) == len(entries)
    broken = {int(path.split(".")[1]) for path in problems} | {one.row for one in chunk.problems}
    assert {entry.number for entry in entries} | broken == set(range(len(rows))), "each row passes or is named"
    given_ids = [row.get("associationId") for row in rows]
    for entry in entries:
        expected = given_ids[entry.number] or f"submission:{into.id}:{entry.number}"
        assert entry.key.decode() == expected


@pytest.mark.parametrize("kind", IntakeKind)
@settings(max_examples=100)
@given(data=st.data())
def test_both_ways_to_read_a_body_agree(kind: IntakeKind, data: st.DataObject) -> None:
    rows = data.draw(st.lists(ROWS[kind], min_size=1, max_size=3))
    raw = json.dumps({"data": rows}).encode()
    body = BODIES[kind]
    try:
        quick = body._quickly(raw)[0]
    except ValueError:
        return
    into = submission(DEPLOYMENTS["binary"])
    try:
        careful, _, problems = body._read(raw)
    except BadBody as bad:
        problems, careful = bad.fields, None
    wrong = {one.row for one in quick.check(into).problems}
    # what only the rules refuse of a quickly read body may be refused by the model already
    assert {int(path.split(".")[1]) for path in problems} <= wrong
    if careful is not None and not problems:
        assert meant(quick.check(into).entries) == meant(careful.check(into).entries)


def meant(entries: Sequence[Entry]) -> list[tuple[int, bytes, Any]]:
    """Rows, whatever their JSON looks like; a text of more than microseconds may be rounded to either side."""
    found = []
    for number, key, value in entries:
        event = json.loads(value)
        if (at := event.get("timestamp")) is not None:
            event["timestamp"] = round(datetime.fromisoformat(at).timestamp(), 5)
        event.pop("features", None)
        found.append((number, key, event))
    return found


@given(names=st.lists(NAME | OBJECT_ID, min_size=1, max_size=20), partitions=st.integers(1, 64))
def test_each_row_goes_home(names: list[str], partitions: int) -> None:
    into = submission(DEPLOYMENTS["binary"])
    entries = [Entry(number, name.encode(), b"{}") for number, name in enumerate(names)]
    records = outgoing(IntakeKind.ACTUALS, into, entries, partitions)
    assert [record.partition for record in records] == sorted(record.partition for record in records)
    for record in records:
        name = (record.key or b"").decode()
        assert record.partition == (home_of(name, partitions) if not name.startswith("record:") else record.partition)
    by_partition = {number: [r.headers[1][1] for r in records if r.partition == number] for number in range(partitions)}
    for numbers in by_partition.values():
        assert numbers == sorted(numbers, key=int), "the order of a partition is that of the request"


def test_the_limit_of_a_prediction_is_that_of_the_pipeline() -> None:
    assert prediction_intake.MAX_PREDICTION_BYTES == decode.MAX_PREDICTION_BYTES
    labels = {f"{number}-{'x' * 140}": number for number in range(1000)}
    to = deployment(target_type=TargetType.MULTICLASS, class_index=labels)
    row = prediction_intake.PredictionRow("a", [(label, 0.0) for label in labels])
    chunk = PostedPredictions(rows=[(0, row)], to=prediction_intake.Destination(), skip_drift=False).check(
        submission(to)
    )
    assert [(one.row, one.field) for one in chunk.problems] == [(0, "prediction")]


def test_actuals_need_a_column_to_be_joined_by() -> None:
    content, _ = read(IntakeKind.ACTUALS, b'{"data": [{"associationId": "a", "actualValue": "late"}]}')
    with pytest.raises(Invalid, match="no association ID column"):
        content.check(submission(DEPLOYMENTS["binary"], association_columns=[]))
    assert Topic.ACTUALS == IntakeKind.ACTUALS
