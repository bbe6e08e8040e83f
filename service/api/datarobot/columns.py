"""`predictionsColumns`: a column's name for a regression, else the column of each class."""

from typing import Annotated, Final

import orjson
from pydantic import BeforeValidator, WithJsonSchema
from pydantic_core import PydanticCustomError

from service.usecases.prediction_columns import MAX_CLASSES, PredictionColumns

_RULE: Final = "must be the name of a column, or a list of {className, columnName}"
_SCHEMA: Final = {
    "anyOf": [
        {"type": "string", "minLength": 1},
        {
            "type": "array",
            "minItems": 1,
            "maxItems": MAX_CLASSES,
            "items": {
                "type": "object",
                "properties": {"className": {"type": "string"}, "columnName": {"type": "string"}},
                "required": ["className", "columnName"],
            },
        },
    ],
    "examples": ["PREDICTION", [{"className": "True", "columnName": "score_true"}]],
}


def parse_columns(value: object) -> object:
    if value is None or isinstance(value, PredictionColumns):
        return value
    if isinstance(value, str) and value:
        return PredictionColumns((value,))
    if not isinstance(value, list):
        raise PydanticCustomError("columns", _RULE)
    if not 1 <= len(value) <= MAX_CLASSES:
        raise PydanticCustomError("columns", f"must have 1 to {MAX_CLASSES:,} items")
    pairs = [(one.get("className"), one.get("columnName")) if isinstance(one, dict) else (None, None) for one in value]
    if not all(isinstance(label, str) and label and isinstance(name, str) and name for label, name in pairs):
        raise PydanticCustomError("columns", _RULE)
    labels, names = (tuple(str(one) for one in side) for side in zip(*pairs, strict=True))
    for side, word in ((labels, "className"), (names, "columnName")):
        if len(set(side)) < len(side):
            raise PydanticCustomError("columns", f"must name each {word} once")
    return PredictionColumns(names, labels)


def columns_of_part(text: str | None) -> PredictionColumns | str | None:
    """Of a part of a form: a column's name, or JSON text. The rule that it breaks is a text."""
    if text is None:
        return None
    value: object = text
    if text.lstrip().startswith("["):
        try:
            value = orjson.loads(text)
        except orjson.JSONDecodeError:
            return "must be the name of a column, or a JSON list of {className, columnName}"
    try:
        parsed = parse_columns(value)
    except PydanticCustomError as error:
        return error.message()
    assert isinstance(parsed, PredictionColumns)
    return parsed


Columns = Annotated[PredictionColumns, BeforeValidator(parse_columns), WithJsonSchema(_SCHEMA)]
