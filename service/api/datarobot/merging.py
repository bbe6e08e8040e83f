"""What a PATCH makes of what is there: a key that is absent leaves it alone, null sets it to its default."""

from collections.abc import Collection
from dataclasses import fields, replace
from typing import Any, TypeVar

from pydantic import BaseModel

T = TypeVar("T")


def merged(old: T, part: BaseModel | None, *, nullable: Collection[str] = ()) -> T:
    """`old`, a group whose fields all have defaults, with what is sent; of `nullable` fields null is a value.

    Fields of both have the same names. No part at all, where a group was sent as null, resets the group.
    """
    default: Any = type(old)()
    if part is None:
        return default  # type: ignore[no-any-return]
    known = {field.name for field in fields(default)}
    sent = {name: getattr(part, name) for name in part.model_fields_set if name in known}
    return replace(
        old,  # type: ignore[type-var]
        **{
            name: getattr(default, name) if value is None and name not in nullable else value
            for name, value in sent.items()
        },
    )
