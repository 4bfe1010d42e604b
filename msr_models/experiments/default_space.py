"""What a tuning varies unless a file says it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from msr_models.experiments.search_space import SpaceSpec, option_names
from msr_models.experiments.variants import registered_name
from msr_models.models.registry import parse_options
from schemas.pipeline_spec import TrainerConfig

RATIOS = (0.0, 0.1, 0.3, 0.5, 1.0)


def default_space(model: str, trainer: TrainerConfig, options: Mapping[str, Any], *, shared: bool) -> SpaceSpec:
    """Learning rate and weight decay by their logarithm around what is set, epochs
    from half to double, dropout, and every list of widths and the embedding's width at half, once and double.

    shared: lambda and the ratio too.
    """
    rate, epochs = trainer.learning_rate, trainer.max_epochs
    config = parse_options(registered_name(model), options)
    # A model made of copies of another leaves options to it
    copied = parse_options(config.backbone, {}) if hasattr(config, "backbone") else None
    found: dict[str, Any] = {}
    for name in option_names(model):
        value = getattr(config, name)
        value = getattr(copied, name, None) if value is None else value
        if value is None:
            continue
        if name == "dropout":
            found[name] = {"low": 0.0, "high": 0.5, "step": 0.1}
        elif name == "embedding_dim":
            found[name] = {"choices": _sizes(value)}
        elif name.endswith(("hidden", "widths")) and isinstance(value, tuple) and value:
            found[name] = {"choices": [list(widths) for widths in zip(*map(_sizes, value), strict=True)]}
    raw: dict[str, Any] = {
        "trainer": {
            "learning_rate": {"low": rate / 10, "high": rate * 10, "log": True},
            "weight_decay": {"low": 1e-6, "high": 0.1, "log": True},
            "max_epochs": {"low": max(2, epochs // 2), "high": max(2, 2 * epochs)},
        },
        "models": {model: found},
    }
    if shared:
        raw |= {"search": {"kl_weight": {"low": 0.1, "high": 2.0, "log": True}}, "ratio": {"choices": list(RATIOS)}}
    return SpaceSpec.model_validate(raw)


def _sizes(size: int) -> list[int]:
    """Half of a size, itself and double; three different ones."""
    return [max(1, size // 2), size, 2 * size] if size > 1 else [1, 2, 4]
