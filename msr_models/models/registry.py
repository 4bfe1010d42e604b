"""Models by name. A model = one file of this package with `@register(name, Config)` on its class."""

from __future__ import annotations

import dataclasses
import difflib
import importlib
import pkgutil
import typing
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import torch
from pydantic import TypeAdapter, ValidationError

import msr_models.models as package
from msr_models.data.layout import FieldLayout
from msr_models.models.base import MultiScenarioModel
from schemas.errors import TrainingError

M = TypeVar("M", bound=type[MultiScenarioModel])
_MODELS: dict[str, tuple[type[MultiScenarioModel], type[Any]]] = {}


def register(name: str, config: type[Any]) -> Callable[[M], M]:
    """Class decorator. The class is built as Model(config, layout, num_scenarios, generator)."""

    def add(model: M) -> M:
        if name in _MODELS and _MODELS[name][0].__module__ != model.__module__:
            raise ValueError(f"model name {name!r} is registered by {_MODELS[name][0].__module__} already")
        _MODELS[name] = (model, config)
        return model

    return add


def known_models() -> list[str]:
    """Names of all models, sorted."""
    for module in pkgutil.iter_modules(package.__path__):
        importlib.import_module(f"{package.__name__}.{module.name}")
    return sorted(_MODELS)


def model_class(name: str) -> type[MultiScenarioModel]:
    """The class registered as `name`. Raises TrainingError that lists the known names."""
    return _find(name)[0]


def parse_options(name: str, options: Mapping[str, Any]) -> Any:
    """The model's config with these options, each of the declared type.

    Raises TrainingError that names model, option, value and what is allowed.
    """
    config = _find(name)[1]
    hints = typing.get_type_hints(config, include_extras=True)
    allowed = [f.name for f in dataclasses.fields(config)]
    values: dict[str, Any] = {}
    for option, value in options.items():
        if option not in allowed:
            near = difflib.get_close_matches(option, allowed, n=1)
            hint = f"did you mean {near[0]!r}? " if near else ""
            raise TrainingError(
                f"model {name!r} has no option {option!r}; {hint}allowed: {', '.join(allowed) or 'none'}"
            )
        plain = tuple(value) if isinstance(value, list) else value
        try:
            values[option] = TypeAdapter(hints[option]).validate_python(plain, strict=True)
        except ValidationError as error:
            why = error.errors()[0]["msg"]
            raise TrainingError(f"model {name!r}, option {option}: {value!r} is not allowed: {why}") from error
    try:
        return config(**values)
    except ValueError as error:
        raise TrainingError(f"model {name!r}: {error}") from error


def build_model(
    name: str, options: Mapping[str, Any], layout: FieldLayout, num_scenarios: int, seed: int
) -> MultiScenarioModel:
    """A model with fresh weights that depend on nothing but the arguments."""
    config = parse_options(name, options)
    factory: Callable[..., MultiScenarioModel] = model_class(name)
    return factory(config, layout, num_scenarios, torch.Generator().manual_seed(seed))


def _find(name: str) -> tuple[type[MultiScenarioModel], type[Any]]:
    known = known_models()
    if name not in _MODELS:
        near = difflib.get_close_matches(name, known, n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise TrainingError(f"model {name!r} is not known; {hint}known models: {', '.join(known)}")
    return _MODELS[name]
