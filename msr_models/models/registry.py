"""Models by name. A model = one file of this package with `@register(name, Config)` on its class."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import torch

import msr_models.models as package
from msr_models.data.layout import FieldLayout
from msr_models.models.base import MultiScenarioModel
from msr_models.models.config import ModelConfig
from msr_models.models.many_labels import MAIN_LABEL, Labels, ManyLabels
from schemas.errors import TrainingError
from schemas.settings import validated
from schemas.text import did_you_mean

M = TypeVar("M", bound=type[MultiScenarioModel])
_MODELS: dict[str, tuple[type[MultiScenarioModel], type[ModelConfig]]] = {}


def register(name: str, config: type[ModelConfig]) -> Callable[[M], M]:
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


def config_class(name: str) -> type[ModelConfig]:
    """The class of the model's options. Raises TrainingError that lists the known names."""
    return _find(name)[1]


def parse_options(name: str, options: Mapping[str, Any]) -> Any:
    """The model's config with these options.

    Raises TrainingError that names model, option, value and what is allowed.
    """
    try:
        return validated(_find(name)[1], options)
    except ValueError as error:
        raise TrainingError(f"model {name!r}: {error}") from error


def build_model(
    name: str,
    options: Mapping[str, Any],
    layout: FieldLayout,
    num_scenarios: int,
    seed: int,
    labels: Labels = MAIN_LABEL,
) -> MultiScenarioModel:
    """A model with initial weights that depend on the arguments alone.

    Raises TrainingError where the model cannot be built on the layout, or learns one label and `labels` has more.
    """
    config = parse_options(name, options)
    factory: Callable[..., MultiScenarioModel] = model_class(name)
    generator = torch.Generator().manual_seed(seed)
    if not labels.further or model_class(name).predicts_main_label_only:
        return factory(config, layout, num_scenarios, generator)
    network = factory(config, layout, num_scenarios * labels.count, generator)
    return ManyLabels(network, num_scenarios, labels)


def _find(name: str) -> tuple[type[MultiScenarioModel], type[ModelConfig]]:
    known = known_models()
    if name not in _MODELS:
        raise TrainingError(
            f"model {name!r} is not known; {did_you_mean(name, known)} known models: {', '.join(known)}"
        )
    return _MODELS[name]
