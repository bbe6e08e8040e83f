"""Deployments, models and classes that events bring along."""

import asyncio

import pytest

from service.domain.deployment import MAX_CLASSES, Deployment, TargetType
from tests.builders import actual, deployment, prediction
from tests.flow.conftest import Opened
from tests.flow.published import words
from tests.flow.world import FlowWorld


@pytest.fixture
def open_house(opened: Opened) -> FlowWorld:
    """A world without deployments, where events may create them."""
    return opened(auto_create=True)


def known(world: FlowWorld, name: str = "flights") -> Deployment:
    return asyncio.run(world.catalog.deployments([name]))[name]


def test_a_number_makes_a_regression(open_house: FlowWorld) -> None:
    assert open_house.predicted(prediction(prediction=1.5, modelId="m7")).word == "ACCEPTED"
    made = known(open_house)
    assert (made.target_type, made.current_model, dict(made.models)) == (TargetType.REGRESSION, "m7", {"m7": None})
    assert open_house.told(actual(actual=1)).word == "MATCHED"


def test_two_probabilities_make_a_binary_deployment_whose_positive_class_is_the_last_in_order(
    open_house: FlowWorld,
) -> None:
    open_house.predicted(prediction(prediction={"yes": 0.6, "no": 0.4}))
    made = known(open_house)
    assert (made.target_type, made.positive_class) == (TargetType.BINARY, "yes")
    assert dict(made.class_index) == {"no": 0, "yes": 1}
    open_house.told(actual(actual="no"))
    assert open_house.confusion() == {(0, 1): 1}
    assert open_house.predicted(prediction("next", prediction={"maybe": 0.5})).reason == "unknown_class"
    assert open_house.told(actual("next", actual="maybe")).reason == "unknown_actual_class"


@pytest.mark.parametrize("first", [{"a": 0.2, "b": 0.3, "c": 0.5}, {"a": 1.0}, "a", True])
def test_anything_else_makes_a_multiclass_deployment_that_learns(
    open_house: FlowWorld, first: dict[str, float] | str | bool
) -> None:
    assert open_house.predicted(prediction(prediction=first)).word == "ACCEPTED"
    assert known(open_house).target_type is TargetType.MULTICLASS
    assert open_house.predicted(prediction("next", prediction={"z": 1.0})).word == "ACCEPTED"
    assert open_house.told(actual("next", actual="y")).word == "MATCHED"
    assert {"y", "z"} <= known(open_house).class_index.keys()
    index = known(open_house).class_index
    assert open_house.confusion() == {(index["y"], index["z"]): 1}


def test_classes_are_learned_from_actuals_too(open_house: FlowWorld) -> None:
    open_house.predicted(prediction(prediction="a"))
    assert open_house.told(actual(actual=False)).fields["actual"] == "false"
    assert list(known(open_house).class_index) == ["a", "false"]
    assert open_house.confusion() == {(1, 0): 1}


def test_the_type_then_holds(open_house: FlowWorld) -> None:
    open_house.predicted(prediction(prediction=1.5))
    assert open_house.predicted(prediction("next", prediction="late")).reason == "bad_prediction"


def test_a_thousand_classes_and_no_more_are_learned(open_house: FlowWorld) -> None:
    shares = {f"c{number:04}": 0.0 for number in range(MAX_CLASSES - 1)}
    open_house.predicted(prediction(prediction=shares))
    assert open_house.predicted(prediction("next", prediction="last")).word == "ACCEPTED"
    assert open_house.predicted(prediction("over", prediction="too-much")).reason == "unknown_class"
    assert open_house.told(actual("next", actual="too-much")).reason == "unknown_actual_class"
    assert open_house.told(actual("next", actual="c0000")).word == "MATCHED"


def test_a_record_with_more_new_classes_than_fit_is_refused_and_the_rest_goes_on(open_house: FlowWorld) -> None:
    open_house.predicted(prediction(prediction="a"))
    shares = {f"c{number:04}": 0.0 for number in range(MAX_CLASSES)}
    assert open_house.predicted(prediction("over", prediction=shares)).reason == "unknown_class"
    assert open_house.told(actual(actual="a")).word == "MATCHED"
    assert len(known(open_house).class_index) == MAX_CLASSES


def test_a_first_prediction_of_too_many_classes_makes_a_deployment_of_as_many_as_fit(open_house: FlowWorld) -> None:
    """The confusion counts have room for so many and no more."""
    shares = {f"c{number:04}": 0.0 for number in range(2 * MAX_CLASSES)}
    assert open_house.predicted(prediction(prediction=shares)).reason == "unknown_class"
    assert len(known(open_house).class_index) == MAX_CLASSES
    assert open_house.predicted(prediction(prediction="c0999")).word == "ACCEPTED"
    assert open_house.told(actual(actual="c0998")).word == "MATCHED"
    assert open_house.confusion() == {(998, 999): 1}


def test_one_deployment_comes_of_it_when_all_tasks_see_it_at_once(open_house: FlowWorld) -> None:
    for number in range(40):
        open_house.predict(prediction(f"row-{number}", prediction="ab"[number % 2]))
    assert words(open_house.settle()) == ["ACCEPTED"] * 40
    assert set(known(open_house).class_index) == {"a", "b"}


def test_an_actual_makes_no_deployment(open_house: FlowWorld) -> None:
    open_house.tell(actual())
    assert open_house.settle() == []
    assert [letter.reason for letter in open_house.dead_letters()] == ["unknown_deployment"]


def test_a_prediction_of_nothing_makes_no_deployment(open_house: FlowWorld) -> None:
    open_house.predict(prediction(prediction=None)[:-1] + b',"prediction":[]}')
    open_house.predict(prediction(prediction={}))
    assert open_house.settle() == []
    assert [letter.reason for letter in open_house.dead_letters()] == ["unknown_deployment"] * 2


def test_a_deleted_deployment_does_not_come_back(open_house: FlowWorld) -> None:
    open_house.predicted(prediction())
    open_house.catalog.delete("flights")
    open_house.predict(prediction("next"))
    assert open_house.settle() == []
    assert [letter.reason for letter in open_house.dead_letters()] == ["unknown_deployment"]


def test_an_unknown_model_is_registered(world: FlowWorld) -> None:
    assert world.predicted(prediction(modelId="m9")).fields["modelId"] == "m9"
    assert set(known(world).models) == {"model-1", "m9"}
    assert {key.model_id for key in world.numbers().traffic} == {"m9"}


def test_the_current_model_is_meant_where_none_is_named(opened: Opened) -> None:
    world = opened(deployment(current_model="m2", models={"m1": None, "m2": None}))
    assert world.predicted(prediction()).fields["modelId"] == "m2"
