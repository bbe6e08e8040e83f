"""Layouts, there and back through the JSON of a database column."""

import orjson
from hypothesis import given
from hypothesis import strategies as st

from service.adapters.postgres.layouts import layout_from_json, layout_to_json, longest_layouts
from service.domain.stats.histogram import CategoricalBins, FeatureBins, FeatureLayout, NumericBins

NAMES = st.text(min_size=1, max_size=10)
EDGES = st.lists(st.floats(allow_nan=False, allow_infinity=False), max_size=9, unique=True).map(sorted)
VALUES = st.lists(st.text(max_size=10), max_size=50, unique=True)


@st.composite
def layouts(draw: st.DrawFn) -> FeatureLayout:
    layout = FeatureLayout()
    for name in draw(st.lists(NAMES, max_size=5, unique=True)):
        bins: FeatureBins = (
            NumericBins(name=name, first_slot=layout.slots, edges=tuple(draw(EDGES)))
            if draw(st.booleans())
            else CategoricalBins(name=name, first_slot=layout.slots, values=tuple(draw(VALUES)))
        )
        layout = layout.extended(bins)
    return layout


@given(layouts())
def test_round_trip(layout: FeatureLayout) -> None:
    assert layout_from_json(orjson.loads(orjson.dumps(layout_to_json(layout)))) == layout


def test_the_stored_form() -> None:
    layout = FeatureLayout(
        features=(
            CategoricalBins(name="origin", first_slot=0, values=("EWR",)),
            NumericBins(name="distance", first_slot=3, edges=(1.5,)),
        )
    )
    assert layout_to_json(layout) == {
        "features": [
            {"name": "origin", "kind": "categorical", "first_slot": 0, "values": ["EWR"]},
            {"name": "distance", "kind": "numeric", "first_slot": 3, "edges": [1.5]},
        ]
    }


def test_of_several_baselines_of_a_model_the_longest_counts() -> None:
    short = FeatureLayout(features=(NumericBins(name="a", first_slot=0, edges=()),))
    long = short.extended(NumericBins(name="b", first_slot=2, edges=()))
    stored = [("m1", layout_to_json(long)), ("m1", layout_to_json(short)), ("m2", layout_to_json(short))]
    assert longest_layouts(stored) == {"m1": long, "m2": short}
