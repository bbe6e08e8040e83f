"""The fast and the slow way of reading features give every row the same slots."""

import json
from typing import Final

import numpy as np
from hypothesis import example, given, settings
from hypothesis import strategies as st

from service.domain.stats.histogram import CategoricalBins, FeatureLayout, NumericBins
from service.wire.events import Unusable, decode_prediction
from service.wire.features import feature_slots
from service.wire.values import class_label
from tests.laws.wire_events import JSON, NUMBER, TEXT

CATEGORIES: Final = (
    "a", "", "1", "0", "-0", "0.1", "1.5", "100", "true", "false", "null", "NaN", "inf", "1e-05", "0.00001", "1e+20",
    "100000000000000000000", "9007199254740992", "9007199254740993", "\u00e4", 'q"q', "b\\",
)  # fmt: skip
LAYOUT: Final = (
    FeatureLayout()
    .extended(NumericBins(name="n", first_slot=0, edges=(-1e300, -1.0, 0.0, 0.1, 9007199254740992.0, 1e300)))
    .extended(CategoricalBins(name="c", first_slot=8, values=CATEGORIES))
    .extended(CategoricalBins(name="d", first_slot=8 + len(CATEGORIES) + 2, values=()))
)
NUMBER_TEXT: Final = st.one_of(
    NUMBER.map(json.dumps),
    st.from_regex(r"\A-?(0|[1-9][0-9]{0,25})(\.[0-9]{1,25})?([eE][+-]?[0-9]{1,2})?\Z"),
    st.sampled_from(["-0", "-0.0", "1.0", "1e2", "1E2", "1e-5", "1e20", "9007199254740993", "1e-400"]),
    st.sampled_from(["1e999", "-1e999", "9" * 45, "-" + "9" * 45, "9" * 400, "-" + "9" * 400, "9" * 5000]),
)
VALUE_TEXT: Final = NUMBER_TEXT | st.one_of(
    TEXT.map(json.dumps),
    TEXT.map(lambda text: json.dumps(text, ensure_ascii=False)),
    st.sampled_from(CATEGORIES).map(json.dumps),
    st.sampled_from(["true", "false", "null", '"\\u0061"', '"a\\/b"', '"{"', '"["']),
)
NAME_TEXT: Final = st.sampled_from(['"n"', '"c"', '"d"', '"\\u006e"', '"other"', '""'])
SPACE: Final = st.sampled_from(["", "", "", " ", "\n", "\r\n", "\t"])
ODD_ROWS: Final = {
    "text for a number": b'{"n":"x"}',
    "boolean for a number": b'{"n":true}',
    "line break": b'{\n"n":1}',
    "nested": b'{"n":[1]}',
    "brace in a text": b'{"c":"{"}',
    "no object": b"7",
}


@st.composite
def row_texts(draw: st.DrawFn) -> bytes:
    """A flat object, as strangely written as JSON allows; names may repeat."""
    space = draw(SPACE)
    pairs = draw(st.lists(st.tuples(NAME_TEXT, VALUE_TEXT), max_size=5))
    return ("{" + f"{space},".join(f"{name}{space}:{value}" for name, value in pairs) + space + "}").encode()


MANY: Final = 50
"""Of so many rows all are read as columns; of few, row by row."""
ROWS: Final = st.lists(row_texts(), min_size=1, max_size=5)


@given(ROWS)
@example([b'{"n":1,"n":-5}'])
@example([b'{"c":"a","c":"1"}'])
@example([b'{"c":195498301239036.62}'])
@example([b'{"n":1%b}' % (400 * b"0")])
@example([b'{"c":-1%b}' % (400 * b"0")])
@settings(max_examples=300)
def test_a_row_has_the_same_slots_whatever_it_is_read_with(texts: list[bytes]) -> None:
    together, broken = feature_slots(texts, LAYOUT)
    assert broken == []
    for position, text in enumerate(texts):
        assert feature_slots([text], LAYOUT)[0].tolist() == [together[position].tolist()]
    many, _ = feature_slots(texts * MANY, LAYOUT)
    assert many.tolist() == together.tolist() * MANY
    for odd in ODD_ROWS.values():
        slowly, _ = feature_slots([*texts, odd, *texts * MANY], LAYOUT)
        assert slowly[: len(texts)].tolist() == together.tolist()


@given(st.lists(JSON, min_size=1, max_size=5), ROWS)
def test_flat_objects_are_taken_and_others_are_broken(values: list[object], rows: list[bytes]) -> None:
    texts = [*(json.dumps(value).encode() for value in values), *rows]
    expected = [position for position, value in enumerate(values) if value is not None and not is_flat(value)]
    for layout in (LAYOUT, FeatureLayout()):
        slots, broken = feature_slots(texts, layout)
        assert broken == expected
        assert slots.shape == (len(texts), len(layout.features))
        for column, bins in enumerate(layout.features):
            kept = np.delete(slots[:, column], broken)
            assert ((kept >= bins.first_slot) & (kept < bins.first_slot + bins.slots)).all()


def is_flat(value: object) -> bool:
    return isinstance(value, dict) and not any(isinstance(inner, dict | list) for inner in value.values())


@given(st.binary(max_size=40))
def test_whatever_features_an_event_has_they_are_taken_or_broken(value: bytes) -> None:
    try:
        event = decode_prediction(b'{"deploymentId":"d","prediction":1,"features":{"c":"%b"}}' % value)
    except Unusable:
        return
    texts = [bytes(event.features), b"{}"]
    with_layout, without = feature_slots(texts, LAYOUT)[1], feature_slots(texts, FeatureLayout())[1]
    assert with_layout == without
    assert set(with_layout) <= {0}


@given(st.integers(-(1 << 70), 1 << 70) | st.floats(-1e8, 1e8).map(lambda x: round(x, 6)) | st.booleans())
def test_the_category_of_a_number_is_its_class_label(value: float | bool) -> None:
    """So a baseline, whose values are labelled so, and events fall into the same bins."""
    layout = FeatureLayout().extended(CategoricalBins(name="c", first_slot=0, values=(class_label(value),)))
    text = json.dumps({"c": value}).encode()
    for texts in ([text], [text] * MANY, [text, b"7"]):
        if value != 0:
            assert feature_slots(texts, layout)[0][0].tolist() == [0]
