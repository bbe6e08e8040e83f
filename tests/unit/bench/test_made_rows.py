"""Rows of any shape: the same number gives the same bytes, and deployments take turns."""

import json
from datetime import UTC, datetime
from xml.etree import ElementTree

import numpy as np
import pytest

from bench.curves import Curve, Panel, picture
from bench.made_rows import Shape, open_rows, pairs, row_number
from service.devstack.demo.replay import ACTUAL, PREDICTION
from service.usecases.deployment_description import parse_description

AT = datetime(2026, 1, 1, tzinfo=UTC)


def test_every_prediction_has_an_actual_that_comes_later() -> None:
    events = pairs(Shape(deployments=3), 10, 50, at=AT, partitions=4)
    of = {kind: np.flatnonzero(events.topics == kind) for kind in (PREDICTION, ACTUAL)}
    places = {
        kind: dict(zip(events.rows[chosen].tolist(), chosen.tolist(), strict=True)) for kind, chosen in of.items()
    }
    assert places[PREDICTION].keys() == places[ACTUAL].keys() == set(range(10, 60))
    assert all(places[ACTUAL][row] > place for row, place in places[PREDICTION].items())
    assert [row_number(key) for key in events.keys] == events.rows.tolist()
    assert (np.diff(events.timestamps_ms) >= 0).all()


@pytest.mark.parametrize("features", [1, 20, 500])
def test_a_prediction_has_its_features_and_a_deployment_that_knows_them(features: int) -> None:
    shape = Shape(deployments=2, features=features)
    first, again = (pairs(shape, 0, 20, at=AT, partitions=4).values for _ in range(2))
    assert first == again
    told = json.loads(first[1])
    known = parse_description(shape.description(told["deploymentId"]))
    assert told["deploymentId"] == "made-00001"
    assert set(told["features"]) <= {feature.name for feature in known.features}
    assert len(known.features) == features


def test_a_prediction_of_20_features_has_about_500_bytes() -> None:
    sizes = [len(value) for value in pairs(Shape(), 0, 500, at=AT, partitions=4).values[:500]]
    assert 450 < np.mean(sizes) < 550


def test_open_rows_stay_open() -> None:
    assert set(open_rows(0, 5, at=AT, partitions=4).topics.tolist()) == {PREDICTION}


@pytest.mark.parametrize("log", [True, False])
def test_a_picture_is_drawn_inside_its_panels(log: bool) -> None:
    curves = [Curve(label="<a>", points=[(0, 5.0), (10, 50.0), (1000, 0.5)]), Curve(label="b", points=[(1, 1.0)])]
    drawn = ElementTree.fromstring(picture("&", [Panel(title="t", x="x", y="y", curves=curves, log_x=log, log_y=log)]))
    width, height = float(drawn.attrib["width"]), float(drawn.attrib["height"])
    points = [(float(one.attrib["cx"]), float(one.attrib["cy"])) for one in drawn.iter() if one.tag.endswith("circle")]
    assert len(points) == 4
    assert all(0 <= x <= width and 0 <= y <= height for x, y in points)
