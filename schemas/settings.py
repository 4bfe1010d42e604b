"""Settings given as a mapping (YAML, JSON, `key=value`) become a typed object, or one line that says what is wrong."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, TypeAdapter, ValidationError

from schemas.text import did_you_mean

T = TypeVar("T")

_UNKNOWN = ("unexpected_keyword_argument", "extra_forbidden")


def validated(kind: type[T], values: Mapping[str, Any]) -> T:
    """An object of the dataclass or pydantic model `kind` with these values, each converted to its field's type.

    Raises ValueError that names the first wrong option, its value and what is allowed.
    """
    try:
        return TypeAdapter(kind).validate_python(dict(values))
    except ValidationError as error:
        raise ValueError(_first_mistake(kind, values, error)) from error


def _first_mistake(kind: type[Any], values: Mapping[str, Any], error: ValidationError) -> str:
    first = error.errors()[0]
    if not first["loc"]:  # of the values together
        return str(first.get("ctx", {}).get("error", first["msg"]))
    option = str(first["loc"][0])
    if first["type"] in _UNKNOWN:
        allowed = list(kind.model_fields) if issubclass(kind, BaseModel) else [f.name for f in dataclasses.fields(kind)]
        hint = did_you_mean(option, allowed)
        return " ".join(filter(None, [f"no option {option!r};", hint, f"allowed: {', '.join(allowed) or 'none'}"]))
    return f"option {option}: {values.get(option)!r} is not allowed: {first['msg']}"
