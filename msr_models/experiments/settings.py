"""Settings given as KEY=VALUE become the pydantic model that declares them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel

from schemas.errors import TrainingError
from schemas.settings import validated

S = TypeVar("S", bound=BaseModel)


def with_settings(settings: S, changes: Sequence[str], option: str, *, fixed: Sequence[str] = ()) -> S:
    """The settings with changes `KEY=VALUE`; fixed: settings that may not be changed. See `read_settings`."""
    for change in changes:
        if change.partition("=")[0] in fixed:
            raise TrainingError(
                f"{option}: {change} is not allowed: this command sets {', '.join(fixed)} itself; remove it"
            )
    return read_settings(type(settings), changes, option, settings.model_dump())


def read_settings(model: type[S], changes: Sequence[str], option: str, known: Mapping[str, Any]) -> S:
    """A model from known values and changes `KEY=VALUE`, values in YAML.

    Raises TrainingError that begins with the command-line option and names key, value and what is allowed.
    """
    values: dict[str, Any] = {}
    for change in changes:
        key, equals, text = change.partition("=")
        if not equals:
            raise TrainingError(f"{option}: {change!r} is not KEY=VALUE; give one of {', '.join(model.model_fields)}")
        values[key] = _value(text)
    try:
        return validated(model, {**known, **values})
    except ValueError as error:
        raise TrainingError(f"{option}: {error}") from error


def _value(text: str) -> Any:
    try:
        return yaml.safe_load(text)
    except (yaml.YAMLError, ValueError):  # ValueError: a date that does not exist
        return text  # validation reports the text
