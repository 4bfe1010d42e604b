"""Settings given as KEY=VALUE, checked by the pydantic model that declares them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from schemas.errors import TrainingError

S = TypeVar("S", bound=BaseModel)


def with_settings(settings: S, changes: Sequence[str], option: str, *, fixed: Sequence[str] = ()) -> S:
    """The settings with changes `KEY=VALUE`, values in YAML. fixed: settings that may not be changed.

    Raises TrainingError that begins with the command-line option and names key, value and what is allowed.
    """
    allowed = [name for name in type(settings).model_fields if name not in fixed]
    return read_settings(type(settings), settings.model_dump(), changes, option, allowed)


def read_settings(
    model: type[S], known: Mapping[str, Any], changes: Sequence[str], option: str, allowed: Sequence[str]
) -> S:
    """A model from known values and changes `KEY=VALUE`; see `with_settings`."""
    given = dict(_pair(change, option, allowed) for change in changes)
    try:
        return model.model_validate({**known, **{key: _value(text) for key, text in given.items()}})
    except ValidationError as error:
        first = error.errors()[0]
        key = str(first["loc"][0]) if first["loc"] else ""
        shown = f"{key}={given[key]}" if key in given else " ".join(changes)
        message = first["msg"].removeprefix("Value error, ")
        raise TrainingError(f"{option} {shown}: {message}") from error


def _pair(change: str, option: str, allowed: Sequence[str]) -> tuple[str, str]:
    key, equals, value = change.partition("=")
    if not equals or key not in allowed:
        raise TrainingError(f"{option} {change!r} is not understood; give KEY=VALUE with {', '.join(allowed)}")
    return key, value


def _value(text: str) -> Any:
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:
        return text  # the model says what it expects instead
