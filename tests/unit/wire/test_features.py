"""Features into slots: each kind of value, by both ways of reading.

slot        0      1       2      3  |  4  5   6      7        8         9
distance  <= 0  0..1000  > 1000   -  |                             missing = 3
origin                               |  EWR 1 true  other   missing
"""

import pytest

from service.domain.stats.histogram import CategoricalBins, FeatureLayout, NumericBins
from service.wire.features import feature_slots

LAYOUT = (
    FeatureLayout()
    .extended(NumericBins(name="distance", first_slot=0, edges=(0.0, 1000.0)))
    .extended(CategoricalBins(name="origin", first_slot=4, values=("EWR", "1", "true")))
)
SLOW_BECAUSE_OF = b'{"distance":"far"}'


def slots(text: bytes) -> list[int]:
    (found,), broken = feature_slots([text], LAYOUT)
    assert broken == []
    for texts in ([text, SLOW_BECAUSE_OF], [text] * 100, [text] * 100 + [SLOW_BECAUSE_OF], [text] * 2_500):
        assert feature_slots(texts, LAYOUT)[0][0].tolist() == found.tolist()
    slots: list[int] = found.tolist()
    return slots


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (b'{"distance":500,"origin":"EWR"}', [1, 4]),
        (b'{"distance":0,"origin":1}', [0, 5]),
        (b'{"distance":1000.5,"origin":1.0}', [2, 5]),
        (b'{"distance":1e3,"origin":1e0}', [1, 5]),
        (b'{"distance":-1e999,"origin":true}', [0, 6]),
        (b'{"distance":1e999,"origin":"true"}', [2, 6]),
        (b'{"distance":null,"origin":null}', [3, 8]),
        (b"{}", [3, 8]),
        (b"null", [3, 8]),
        (b'{"origin":"JFK"}', [3, 7]),
        (b'{"origin":""}', [3, 7]),
        (b'{"origin":false}', [3, 7]),
        (b'{"distance":"500","origin":"EWR"}', [3, 4]),
        (b'{"distance":true,"origin":"EWR"}', [3, 4]),
        (b'{"distance":500,"distance":-1,"origin":"EWR","origin":"JFK"}', [0, 7]),
        (b'{"\\u006frigin":"E\\u0057R","unknown":"{[\\n"}', [3, 4]),
        ('{"distance" :\n 500 , "origin" :\r\n"EWR", "ä":"ö"}'.encode(), [1, 4]),
    ],
)
def test_a_row(text: bytes, expected: list[int]) -> None:
    assert slots(text) == expected


@pytest.mark.parametrize("text", [b"7", b'"{"', b"[]", b'{"x":{}}', b'{"x":[1]}', b'{"x":"\xff"}', b"true"])
@pytest.mark.parametrize("layout", [LAYOUT, FeatureLayout()], ids=["features", "no features"])
def test_what_is_no_flat_object_is_told_and_harms_no_other_row(text: bytes, layout: FeatureLayout) -> None:
    good = b'{"distance":500,"origin":"EWR"}'
    found, broken = feature_slots([good, text, good], layout)
    assert broken == [1]
    assert found[[0, 2]].tolist() == [[1, 4][: len(layout.features)]] * 2


def test_no_rows() -> None:
    found, broken = feature_slots([], LAYOUT)
    assert (found.shape, broken) == ((0, 2), [])
