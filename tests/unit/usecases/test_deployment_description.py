"""Descriptions: what is accepted, and that everything wrong is told at once, by path."""

from datetime import timedelta
from importlib.resources import files
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from service.usecases.deployment_description import DeploymentDescription, InvalidDescription, parse_description

LEAST: dict[str, Any] = {
    "id": "flights",
    "label": "Flights",
    "targetType": "Regression",
    "model": {"id": "m1"},
}
BINARY = LEAST | {"targetType": "Binary", "classNames": ["late", "on_time"]}


def described(**changes: Any) -> str:
    return str(yaml.safe_dump(LEAST | changes))


def problems_of(text: str) -> tuple[str, ...]:
    with pytest.raises(InvalidDescription) as refused:
        parse_description(text)
    return refused.value.problems


def test_the_demo_is_valid() -> None:
    text = files("service.devstack.demo").joinpath("flights.yaml").read_text(encoding="utf-8")

    description = parse_description(text)

    assert (description.id, description.target_type, description.positive_class) == ("flights", "Binary", "late")
    assert description.join.window == timedelta(days=30)
    assert (description.batch_monitoring.enabled, description.batch_monitoring.policy) == (True, "daily")
    assert description.baseline is not None and description.baseline.file == "january.csv"


def test_what_is_left_out_has_the_defaults_of_the_design() -> None:
    join = parse_description(described()).join

    spans = (join.window, join.grace, join.allowed_lateness, join.early_ttl, join.idle_timeout, join.max_future_skew)
    assert spans == (
        timedelta(days=30), timedelta(days=60), timedelta(minutes=10),
        timedelta(days=90), timedelta(minutes=1), timedelta(minutes=5),
    )  # fmt: skip
    assert (join.late_policy, join.actual_order) == ("correct", "eventTime")


def test_everything_wrong_is_told_at_once() -> None:
    problems = problems_of(
        """
        id: a b
        label: 3
        labl: x
        targetType: Binary
        classNames: [yes, b]
        positiveClass: 1
        threshold: 1.5
        model: {name: x}
        features: [{name: a, type: image}, {name: a, type: number}]
        join: {window: PT1S, grace: P1M, earlyTtl: 5, latePolicy: never, idleTimeout: PT0S}
        batchMonitoring: 3
        baseline: {file: x.csv, knd: training}
        """
    )

    assert {problem.split(":")[0] for problem in problems} == {
        "id", "label", "labl", "classNames.0", "positiveClass", "threshold", "model.id", "features.0.type",
        "features.1.type", "features", "join.window", "join.grace", "join.earlyTtl", "join.latePolicy",
        "join.idleTimeout", "batchMonitoring", "baseline.knd",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"targetType": "Binary"}, "classNames: must be two for targetType Binary, not 0"),
        (
            {"targetType": "Binary", "classNames": ["a", "b", "c"]},
            "classNames: must be two for targetType Binary, not 3",
        ),
        ({"targetType": "Binary", "classNames": ["a", "a"]}, "classNames: 'a' is there twice"),
        (
            {"targetType": "Multiclass", "classNames": ["a"]},
            "classNames: must be 2 to 1000 for targetType Multiclass, not 1",
        ),
        ({"classNames": ["a", "b"]}, "classNames: must be left out for targetType Regression"),
        (BINARY | {"positiveClass": "x"}, "positiveClass: must be one of late, on_time, not 'x'"),
        ({"positiveClass": "x"}, "positiveClass: is for targetType Binary only"),
        ({"threshold": 0.1}, "threshold: is for targetType Binary only"),
        (
            {"baseline": {"file": "b.csv"}},
            "features: are required with a baseline, and some that are not text",
        ),
        ({"join": {"window": "PT59S"}}, "join.window: must be at least PT1M"),
        ({"join": {"wndow": "PT1M"}}, "join.wndow: no such key; did you mean window?"),
        ({"model": {"id": ".."}}, "model.id: must be 1 to 128 of A-Z a-z 0-9 . _ -"),
        ({"id": 7}, "id: must be text, in quotes where YAML reads something else (7)"),
        ({"label": ""}, "label: String should have at least 1 character"),
        (
            {"features": [{"name": "t", "type": "text"}], "baseline": {"file": "b.csv"}},
            "features: are required with a baseline, and some that are not text",
        ),
        (
            {"features": [{"name": "a", "type": "numeric", "impact": 1.5}]},
            "features.0.impact: must be less than or equal to 1",
        ),
        ({"associationIdRequired": "yes"}, "associationIdRequired: must be a valid boolean"),
    ],
)
def test_rules(changes: dict[str, Any], problem: str) -> None:
    assert problems_of(described(**changes)) == (problem,)


def test_many_classes() -> None:
    names = [f"c{i}" for i in range(1000)]
    assert len(parse_description(described(targetType="Multiclass", classNames=names)).class_names) == 1000
    (problem,) = problems_of(described(targetType="Multiclass", classNames=[*names, "one more"]))
    assert problem.startswith("classNames: must be 2 to 1000")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "the description must be a mapping"),
        ("[1, 2]", "the description must be a mapping"),
        ("a: [", "the description is not YAML in line 1"),
        ("a: !!python/object:os.system {}", "the description is not YAML in line 1"),
        ("id: x\nid: y", "id: is there twice"),
        ("model: {id: x, id: y}", "id: is there twice"),
    ],
)
def test_what_is_no_description(text: str, problem: str) -> None:
    assert problems_of(text)[0].startswith(problem)


@given(
    st.dictionaries(
        st.sampled_from(["id", "label", "targetType", "classNames", "model", "features", "join", "threshold", "other"]),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.just("Binary"),
            lambda inner: (
                st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5) | st.integers(), inner, max_size=3)
            ),
            max_leaves=6,
        ),
    )
)
def test_any_mapping_is_a_description_or_a_list_of_problems(described: dict[str, Any]) -> None:
    try:
        assert isinstance(parse_description(yaml.safe_dump(described)), DeploymentDescription)
    except InvalidDescription as refused:
        assert refused.problems and all(": " in problem or "mapping" in problem for problem in refused.problems)
