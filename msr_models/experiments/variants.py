"""Variants: one model with several sets of options in one table, named MODEL/VARIANT."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from msr_models.models.registry import parse_options
from schemas.errors import TrainingError

Options = Mapping[str, Mapping[str, Any]]

_VARIANT = re.compile(r"[A-Za-z0-9_.-]+")


def registered_name(name: str) -> str:
    """The registered name in `MODEL` or `MODEL/VARIANT`."""
    return name.partition("/")[0]


def file_name(name: str) -> str:
    """The whole name as part of a file name."""
    return name.replace("/", "+")


def check_name(name: str) -> None:
    """Raises TrainingError for an unknown model and for a variant's name that is not fit for a file name."""
    model, slash, variant = name.partition("/")
    parse_options(model, {})
    if slash and not _VARIANT.fullmatch(variant):
        raise TrainingError(
            f"variant {name!r} is not a valid name; give MODEL/VARIANT with letters, digits, _, . and - only"
        )


def merged_options(raw: Options) -> dict[str, Mapping[str, Any]]:
    """Options by name; a variant inherits its model's entry and replaces what it names.

    Raises TrainingError that names model, option and what is allowed.

    >>> merged_options({"optmsm": {"embedding_dim": 8}, "optmsm/no_priors": {"priors": False}})["optmsm/no_priors"]
    {'embedding_dim': 8, 'priors': False}
    """
    merged: dict[str, Mapping[str, Any]] = {}
    for name, own in raw.items():
        check_name(name)
        merged[name] = {**raw.get(registered_name(name), {}), **own}
        try:
            parse_options(registered_name(name), merged[name])
        except TrainingError as error:
            raise error if name == registered_name(name) else TrainingError(f"variant {name!r}: {error}") from error
    return merged


def options_of(options: Options, name: str) -> Mapping[str, Any]:
    """A model's options, {} if it has none. Raises TrainingError for a variant without any, which would be its model.

    options: as `merged_options` returns them.
    """
    if name not in options and name != registered_name(name):
        known = ", ".join(n for n in options if "/" in n) or "none"
        raise TrainingError(f"variant {name!r} has no options; variants with options: {known}")
    return options.get(name, {})
