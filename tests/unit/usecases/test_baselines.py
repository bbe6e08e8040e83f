"""Baselines: files to bins to counts; bins that are fixed stay."""

from pathlib import Path

import polars as pl
import pytest

from service.domain.stats.histogram import CategoricalBins, FeatureLayout, NumericBins
from service.usecases.baselines import BaselineCounts, count_baseline, read_baseline
from service.usecases.deployment_description import FeaturePart, InvalidDescription

ORIGIN = FeaturePart(name="origin", type="categorical")
DISTANCE = FeaturePart(name="distance", type="numeric")
EMPTY = FeatureLayout()


def counted(file: Path, *features: FeaturePart, fixed: FeatureLayout = EMPTY) -> BaselineCounts:
    return count_baseline(read_baseline(file, features), features, fixed)


def problems_of(file: Path, *features: FeaturePart, fixed: FeatureLayout = EMPTY) -> tuple[str, ...]:
    with pytest.raises(InvalidDescription) as refused:
        counted(file, *features, fixed=fixed)
    return refused.value.problems


@pytest.fixture
def csv(tmp_path: Path) -> Path:
    file = tmp_path / "baseline.csv"
    file.write_text("origin,distance,other\nEWR,100,x\nEWR,200,y\nJFK,300,\n,,z\n007,400,\n")
    return file


def test_bins_and_counts_in_the_order_of_the_features(csv: Path) -> None:
    counts = counted(csv, ORIGIN, DISTANCE)

    assert counts.rows == 5
    origin, distance = counts.layout.features
    assert origin == CategoricalBins(name="origin", first_slot=0, values=("EWR", "007", "JFK"))
    assert isinstance(distance, NumericBins) and distance.first_slot == 5 and len(distance.edges) == 9
    assert counts.counts[:5] == (2, 1, 1, 0, 1)  # EWR, 007 (text stays text), JFK, other, missing
    assert sum(counts.counts[5:]) == 5 and counts.counts[-1] == 1


def test_parquet_with_types(tmp_path: Path) -> None:
    file = tmp_path / "baseline.parquet"
    pl.DataFrame({"origin": [1.0, 2.5, None, float("nan")], "distance": [1, 2, None, 3]}).write_parquet(file)

    counts = counted(file, ORIGIN, DISTANCE)

    assert counts.layout.features[0] == CategoricalBins(name="origin", first_slot=0, values=("1", "2.5"))
    assert counts.counts[:4] == (1, 1, 0, 2)


def test_booleans_are_categories_as_json_writes_them(tmp_path: Path) -> None:
    file = tmp_path / "baseline.parquet"
    pl.DataFrame({"origin": [True, False, True]}).write_parquet(file)
    assert counted(file, ORIGIN).layout.features[0] == CategoricalBins(
        name="origin", first_slot=0, values=("true", "false")
    )


def test_fixed_bins_are_counted_again_and_new_features_appended(csv: Path) -> None:
    fixed = FeatureLayout(features=(CategoricalBins(name="origin", first_slot=0, values=("JFK",)),))

    counts = counted(csv, DISTANCE, ORIGIN, fixed=fixed)

    assert counts.layout.features[0] == fixed.features[0]
    assert [bins.name for bins in counts.layout.features] == ["origin", "distance"]
    assert counts.counts[:3] == (1, 3, 1)


def test_a_feature_that_is_no_longer_described_keeps_its_slots(csv: Path) -> None:
    fixed = counted(csv, ORIGIN, DISTANCE).layout

    counts = counted(csv, DISTANCE, fixed=fixed)

    assert counts.layout == fixed
    assert counts.counts[:5] == (0, 0, 0, 0, 0)


def test_a_feature_keeps_its_type(csv: Path) -> None:
    fixed = counted(csv, DISTANCE).layout
    (problem,) = problems_of(csv, FeaturePart(name="distance", type="categorical"), fixed=fixed)
    assert problem.startswith("features.0.type: 'distance' is numeric since the model's first baseline")


def test_all_missing(tmp_path: Path) -> None:
    file = tmp_path / "baseline.csv"
    file.write_text("origin,distance\n,\n,\n")
    assert counted(file, ORIGIN, DISTANCE).counts == (0, 2, 0, 2)


@pytest.mark.parametrize("word", ["NA", "inf", "12x"])
def test_what_is_no_number(tmp_path: Path, word: str) -> None:
    file = tmp_path / "baseline.csv"
    file.write_text(f"distance\n1\n{word}\n")
    assert problems_of(file, DISTANCE) == (
        f"baseline.file: baseline.csv: column 'distance' must hold finite numbers, but has '{word}'",
    )


def test_every_missing_column_is_named(csv: Path) -> None:
    problems = problems_of(
        csv, ORIGIN, FeaturePart(name="a", type="numeric"), FeaturePart(name="b", type="categorical")
    )
    assert problems == (
        "baseline.file: baseline.csv has no column 'a'",
        "baseline.file: baseline.csv has no column 'b'",
    )


def test_files_that_can_not_be_used(tmp_path: Path, csv: Path) -> None:
    (tmp_path / "empty.csv").write_text("")
    (tmp_path / "header.csv").write_text("distance\n")
    (tmp_path / "broken.parquet").write_bytes(b"not parquet")
    for name in ("missing.csv", "empty.csv", "header.csv", "broken.parquet", "other.txt"):
        (problem,) = problems_of(tmp_path / name, DISTANCE)
        assert problem.startswith("baseline.file: ") and name in problem


def test_text_features_have_no_bins(tmp_path: Path) -> None:
    csv = tmp_path / "b.csv"
    csv.write_text("origin\nEWR\n")
    counts = counted(csv, FeaturePart(name="note", type="text"), ORIGIN)
    assert [bins.name for bins in counts.layout.features] == ["origin"]
    assert counts.rows == 1
