"""Rules of settings and health settings that need no database, and what a PATCH makes of a group."""

from dataclasses import dataclass, replace
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.api.datarobot.fields import Body
from service.api.datarobot.merging import merged
from service.domain.deployment import JoinSpec, TargetType
from service.usecases.deployment_settings import (
    Association,
    MonitoringSettings,
    retention_problems,
    setting_problems,
)
from service.usecases.health_settings import METRICS, AccuracyLimits, HealthSettings, health_problems, parse_frequency

DAY = timedelta(days=1)


@pytest.mark.parametrize(
    ("text", "span"),
    [
        ("PT1H", timedelta(hours=1)), ("P1Y", 365 * DAY), ("P12M", 360 * DAY), ("P1M", 30 * DAY), ("P2W", 14 * DAY),
        ("P1M1DT2H", 31 * DAY + timedelta(hours=2)), ("P1DT12H", 1.5 * DAY),
    ],
)  # fmt: skip
def test_frequencies(text: str, span: timedelta) -> None:
    assert parse_frequency(text) == span


@pytest.mark.parametrize("text", ["", "P", "PT", "PT59M59S", "P1Y1D", "P13M", "P2Y", "1D", "P1DT", "P999999Y", "P1M1M"])
def test_what_is_no_frequency(text: str) -> None:
    with pytest.raises(ValueError):
        parse_frequency(text)


@pytest.mark.parametrize("target_type", TargetType)
def test_the_metric_of_a_target_type_fits_it(target_type: TargetType) -> None:
    assert list(health_problems(HealthSettings(), target_type)) == []
    for metric in METRICS[target_type]:
        limits = HealthSettings(accuracy=AccuracyLimits(metric=metric))
        assert list(health_problems(limits, target_type)) == []


def test_columns_that_were_there_before_the_rule_may_stay() -> None:
    old = MonitoringSettings(association=Association(columns=("flight", "date")))
    assert list(setting_problems(replace(old, join=JoinSpec(grace=DAY)), old)) == []
    (problem,) = setting_problems(MonitoringSettings(association=Association(columns=("a", "b"))), old)
    assert problem.startswith("associationId.columnNames: ")


class Kept:
    def __init__(self, days: int) -> None:
        self.days = days
        self.asked = 0

    async def kept_for(self) -> timedelta:
        self.asked += 1
        return self.days * DAY


async def test_only_a_join_that_grows_beyond_the_least_retention_is_held_against_the_real_one() -> None:
    kept = Kept(130)
    longer = JoinSpec(window=40 * DAY)
    assert await retention_problems(JoinSpec(), kept) == ()
    assert kept.asked == 0
    assert not await retention_problems(longer, kept)
    assert await retention_problems(replace(longer, window=40 * DAY + timedelta(seconds=1)), kept)
    assert kept.asked == 2
    assert await retention_problems(longer, Kept(0), longer) == ()
    (problem,) = await retention_problems(longer, Kept(125))
    assert problem.startswith("join.grace: ") and "P95D" in problem


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    one: int = 1
    two: int | None = 2
    three: int = 3


class GroupPart(Body):
    one: int | None = None
    two: int | None = None
    three: int | None = None


_VALUES = st.none() | st.integers(0, 9)


@given(
    st.builds(Group, one=st.integers(0, 9), two=_VALUES, three=st.integers(0, 9)),
    st.dictionaries(st.sampled_from(["one", "two", "three", "other"]), _VALUES),
)
def test_a_patch_changes_what_is_sent_and_nothing_else(old: Group, sent: dict[str, int | None]) -> None:
    new = merged(old, GroupPart.model_validate(sent), nullable=("two",))
    for name in ("one", "two", "three"):
        value = sent.get(name)
        if name not in sent:
            assert getattr(new, name) == getattr(old, name)
        elif value is None and name != "two":
            assert getattr(new, name) == getattr(Group(), name)
        else:
            assert getattr(new, name) == value
    assert merged(new, GroupPart.model_validate(sent), nullable=("two",)) == new
    assert merged(old, None) == Group()
