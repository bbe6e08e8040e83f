"""A holdout judges pairs as the pipeline does, and every row is in one bin."""

from collections.abc import Sequence

import numpy as np
import orjson
import polars as pl
from hypothesis import given
from hypothesis import strategies as st

from service.adapters.postgres.holdouts import holdout_from_json, holdout_to_json
from service.domain.deployment import Deployment, TargetType
from service.domain.stats.accuracy import Accuracy
from service.usecases.holdout import Holdout, Judgement, count_holdout
from service.usecases.prediction_columns import PredictionColumns
from service.wire.pairs import accuracy_of
from tests.builders import MODEL_ID, deployment, regression

SHARES = st.integers(0, 1_000).map(lambda thousandths: thousandths / 1_000)
NUMBERS = st.floats(-1e6, 1e6).map(lambda number: number + 0.0)
BINARY = deployment(threshold=0.4)
THREE = deployment(target_type=TargetType.MULTICLASS, class_index={"a": 0, "b": 1, "c": 2}, positive_class=None)


def judgement(of: Deployment) -> Judgement:
    assert of.target_type is not None
    return Judgement(
        target_type=of.target_type, class_names=tuple(of.class_index), positive_class=of.positive_class,
        threshold=of.threshold,
    )  # fmt: skip


def judged_by_the_pipeline(of: Deployment, predictions: Sequence[object], actuals: Sequence[object]) -> Accuracy:
    pairs = [(one, truth) for one, truth in zip(predictions, actuals, strict=True) if truth is not None]
    if not pairs:
        return Accuracy()
    predicted, known = ([orjson.dumps(value) for value in column] for column in zip(*pairs, strict=True))
    places = np.zeros(len(pairs), dtype=np.int64)
    (accuracy,) = accuracy_of(of, [MODEL_ID] * len(pairs), predicted, known, places + 1, places, 1)
    return accuracy


def check_bins(holdout: Holdout, rows: int) -> None:
    assert holdout.rows == rows
    assert all(sum(one.counts) == rows for one in holdout.scores)
    assert sum(holdout.predicted.values()) == (rows if holdout.predicted else 0)
    assert holdout_from_json(orjson.loads(orjson.dumps(holdout_to_json(holdout)))) == holdout


@given(st.lists(st.tuples(SHARES, st.sampled_from(["late", "on_time", None])), min_size=1, max_size=30))
def test_two_classes(rows: list[tuple[float, str | None]]) -> None:
    frame = pl.DataFrame({"p": [share for share, _ in rows], "q": [1 - share for share, _ in rows]})
    actuals = pl.Series([truth for _, truth in rows], dtype=pl.String)
    holdout = count_holdout(frame, actuals, PredictionColumns(("p", "q"), ("late", "on_time")), judgement(BINARY), None)
    predictions = [{"late": share, "on_time": 1 - share} for share, _ in rows]
    check_bins(holdout, len(rows))
    assert holdout.accuracy == judged_by_the_pipeline(BINARY, predictions, actuals.to_list())


@given(
    st.lists(
        st.tuples(st.tuples(SHARES, SHARES, SHARES).filter(any), st.sampled_from(["a", "b", "c", None])),
        min_size=1,
        max_size=30,
    )  # fmt: skip
)
def test_several_classes(rows: list[tuple[tuple[float, float, float], str | None]]) -> None:
    shares = [tuple(share / sum(one) for share in one) for one, _ in rows]
    frame = pl.DataFrame({name: [one[place] for one in shares] for place, name in enumerate("cab")})
    actuals = pl.Series([truth for _, truth in rows], dtype=pl.String)
    columns = PredictionColumns(("c", "a", "b"), ("c", "a", "b"))
    holdout = count_holdout(frame, actuals, columns, judgement(THREE), None)
    predictions = [dict(zip("cab", one, strict=True)) for one in shares]
    check_bins(holdout, len(rows))
    assert holdout.accuracy == judged_by_the_pipeline(THREE, predictions, actuals.to_list())


@given(st.lists(st.tuples(NUMBERS, st.one_of(NUMBERS, st.none())), min_size=1, max_size=30))
def test_a_regression(rows: list[tuple[float, float | None]]) -> None:
    predictions, actuals = [one for one, _ in rows], [truth for _, truth in rows]
    truth = pl.Series(actuals, dtype=pl.Float64).fill_null(float("nan"))
    of = regression()
    holdout = count_holdout(pl.DataFrame({"p": predictions}), truth, PredictionColumns(("p",)), judgement(of), None)
    check_bins(holdout, len(rows))
    assert holdout.accuracy == judged_by_the_pipeline(of, predictions, actuals)
    later = count_holdout(pl.DataFrame({"p": [0.0]}), None, PredictionColumns(("p",)), judgement(of), holdout)
    assert later.scores[0].bins == holdout.scores[0].bins
