"""Writes `schemas/`: JSON Schema 2020-12 of every event, and `asyncapi.yaml`, from the types that decode and encode.

    python -m service.wire.schemas DIRECTORY           writes them
    python -m service.wire.schemas DIRECTORY --check   shows what differs and exits 1

A field's description is the text below it in its class. What msgspec can not know is added here: what the `Raw`
fields hold, and examples. Unknown fields are allowed everywhere.
"""

import argparse
import ast
import difflib
import inspect
import json
import sys
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Final, Union, get_args, get_origin

import msgspec
from msgspec import UNSET, Meta, Raw, UnsetType
from msgspec.structs import FieldInfo

from service.wire.asyncapi import asyncapi_text
from service.wire.batch_event import MonitoringBatchEvent
from service.wire.events import ActualEvent, Number, PredictionEvent
from service.wire.examples import ACTUALS, BATCH_EVENTS, NOTIFICATIONS, PREDICTIONS, STATUSES
from service.wire.notification import Notification
from service.wire.status import RowStatus

Schema = dict[str, Any]

_Probability = Annotated[float, Meta(ge=0, le=1)]
_Prediction = Number | str | bool | Annotated[dict[str, _Probability], Meta(min_length=1)]
_Label = float | str | bool
_RAW_FIELDS: Final[Mapping[tuple[type, str], Any]] = {
    (PredictionEvent, "prediction"): _Prediction,
    (PredictionEvent, "features"): dict[str, float | str | bool | None] | None,
    (RowStatus, "prediction"): _Prediction,
    (RowStatus, "actual"): _Label | None,
    (RowStatus, "previous_actual"): _Label,
    (Notification, "details"): dict[str, Any],
}
_DOCUMENTS: Final[Mapping[str, tuple[type[msgspec.Struct], Sequence[object]]]] = {
    "prediction.v1.json": (PredictionEvent, PREDICTIONS),
    "actual.v1.json": (ActualEvent, ACTUALS),
    "status.v1.json": (RowStatus, STATUSES),
    "monitoring-batch-event.v1.json": (MonitoringBatchEvent, BATCH_EVENTS),
    "notification.v1.json": (Notification, NOTIFICATIONS),
}


def documents() -> dict[str, str]:
    """Text of every file of `schemas/` that is made here, by its name."""
    written = {
        name: json.dumps(_document(type_, examples), indent=2, ensure_ascii=False) + "\n"
        for name, (type_, examples) in _DOCUMENTS.items()
    }
    return written | {"asyncapi.yaml": asyncapi_text()}


def _document(type_: type[msgspec.Struct], examples: Sequence[object]) -> Schema:
    _, parts = msgspec.json.schema_components([_described(type_)], ref_template="#/$defs/{name}")
    root = parts.pop(type_.__name__)
    document = {"$schema": "https://json-schema.org/draft/2020-12/schema", **root, "examples": list(examples)}
    return document | {"$defs": parts} if parts else document


def _described(type_: type[msgspec.Struct]) -> type[msgspec.Struct]:
    """The same type as its schema shall show it: with real types for raw fields, and a description of each field."""
    texts = field_texts(type_)
    fields = msgspec.structs.fields(type_)
    return msgspec.defstruct(
        type_.__name__,
        [(field.name, *_shown(type_, field, Meta(description=texts[field.name]))) for field in fields],
        kw_only=True,
        rename={field.name: field.encode_name for field in fields},
        namespace={"__doc__": type_.__doc__},
    )


def _shown(type_: type[msgspec.Struct], field: FieldInfo, described: Meta) -> tuple[Any, ...]:
    """Type and default of a field. Where defaults are left out when encoding, its schema has no null for them."""
    shown = _RAW_FIELDS.get((type_, field.name), field.type)
    default = msgspec.json.decode(field.default) if isinstance(field.default, Raw) else field.default
    if get_origin(shown) in (Union, UnionType):
        shown = Union[tuple(map(_described_member, get_args(shown)))]  # noqa: UP007
    if default is msgspec.NODEFAULT:
        return (Annotated[shown, described],)
    if type_.__struct_config__.omit_defaults:
        never_null = (type_, field.name) not in _RAW_FIELDS
        kept = [member for member in get_args(shown) if not (never_null and member is NoneType)]
        shown, default = Union[(*kept, UnsetType)], UNSET  # noqa: UP007
    return Annotated[shown, described], default


def _described_member(member: Any) -> Any:
    return _described(member) if isinstance(member, type) and issubclass(member, msgspec.Struct) else member


def field_texts(type_: type) -> dict[str, str]:
    """The text below each field in the source of its class, in one line."""
    (class_,) = ast.parse(inspect.getsource(type_)).body
    assert isinstance(class_, ast.ClassDef)
    return {
        field.target.id: " ".join(below.value.value.split())
        for field, below in pairwise(class_.body)
        if isinstance(field, ast.AnnAssign)
        and isinstance(field.target, ast.Name)
        and isinstance(below, ast.Expr)
        and isinstance(below.value, ast.Constant)
        and isinstance(below.value.value, str)
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the files, or with `--check` tell whether they are as they would be written."""
    parser = argparse.ArgumentParser(prog="python -m service.wire.schemas", description="Write the schemas of events.")
    parser.add_argument("directory", type=Path)
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 and show what differs")
    given = parser.parse_args(arguments)
    if given.check:
        differing = [line for name, text in documents().items() for line in _difference(given.directory / name, text)]
        sys.stdout.writelines(differing)
        return 1 if differing else 0
    given.directory.mkdir(parents=True, exist_ok=True)
    for name, text in documents().items():
        (given.directory / name).write_text(text, encoding="utf-8")
    return 0


def _difference(file: Path, expected: str) -> list[str]:
    found = file.read_text(encoding="utf-8") if file.exists() else ""
    return list(
        difflib.unified_diff(found.splitlines(True), expected.splitlines(True), str(file), f"{file} (as generated)")
    )


if __name__ == "__main__":
    sys.exit(main())
