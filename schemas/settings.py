"""Settings given as a mapping (YAML, JSON, `key=value`) become a typed object, or one line that says what is wrong."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, TypeAdapter, ValidationError

from schemas.text import did_you_mean

T = TypeVar("T")


def validated(kind: type[T], values: Mapping[str, Any]) -> T:
    """An object of the dataclass or pydantic model `kind` with these values, each converted to its field's type.

    Raises ValueError that names the first wrong option, its value and what is allowed.

    >>> validated(StarConfig, {"hiden": [64]})
    ValueError: no option 'hiden'; did you mean 'hidden'? allowed: embedding_dim, hidden, ...
    """
    try:
        return TypeAdapter(kind).validate_python(dict(values))
    except ValidationError as error:
        raise ValueError(_explain(kind, values, error.errors()[0])) from error


def _explain(kind: Any, values: Mapping[str, Any], error: Any) -> str:
    if not error["loc"]:  # the values do not go together
        return str(error.get("ctx", {}).get("error", error["msg"]))
    option = str(error["loc"][0])
    if error["type"] in ("unexpected_keyword_argument", "extra_forbidden"):
        allowed = list(kind.model_fields) if issubclass(kind, BaseModel) else [f.name for f in dataclasses.fields(kind)]
        listed = f"allowed: {', '.join(allowed) or 'none'}"
        hint = did_you_mean(option, allowed)
        return f"no option {option!r}; {f'{hint} {listed}' if hint else listed}"
    return f"option {option}: {values.get(option)!r} is not allowed: {error['msg']}"
