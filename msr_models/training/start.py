"""What happens to a model before its first step: base rates, and the linear fit where it has one."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from torch import Tensor

from msr_models.data.source import ResidentRows, TrainingData
from msr_models.models.base import MultiScenarioModel
from msr_models.models.logistic_regression import LogisticRegression
from msr_models.models.many_labels import ManyLabels
from msr_models.training.regression import LinearFit, fit_path
from schemas.pipeline_spec import TrainerConfig

log = logging.getLogger(__name__)


def prepare(
    model: MultiScenarioModel, data: TrainingData, validation: ResidentRows, config: TrainerConfig, name: str = ""
) -> LinearFit | None:
    """Give a fresh model its scenarios' base rates and fit its linear part; weights of the day before keep theirs.

    A regression is fitted whatever it starts from. Rows that are streamed are not fitted at once: steps train all.
    Scenarios without rows are logged. Returns what was fitted.
    """
    is_fresh = not model.has_base_rates
    _tell_wider_fields(model, name)
    rows_K, positives_K = data.label_counts()
    model.start_from_base_rates(rows_K, positives_K)
    if isinstance(model, ManyLabels):
        further_J2K = data.further_counts()
        if is_fresh:
            model.start_further_from_base_rates(rows_K, positives_K, further_J2K)
        _tell_rare_labels(model, further_J2K, name)
    _tell_scenarios_without_rows(rows_K, validation.window.scenario_names, name)
    if not isinstance(data, ResidentRows):
        return None
    if isinstance(model, LogisticRegression):
        fit = fit_path(model.inputs, model.base_logit_K + model.bias_K, data, validation, config, name)
        model.adopt(fit.weight_R, fit.bias_K)
        return fit
    if model.wide is None or not is_fresh:
        return None
    fit = fit_path(model.wide.inputs, model.base_logit_K, data, validation, config, name)
    model.wide.adopt(fit.weight_R)
    model.base_logit_K.add_(fit.bias_K.to(model.base_logit_K.device))
    return fit


def _tell_wider_fields(model: MultiScenarioModel, name: str) -> None:
    width = model.embedding.width
    wider = [f"{field} ({dim})" for field, dim in model.embedding.layout.own_dims.items() if dim > width]
    if wider and width > 1:
        log.warning(
            f"{name} embedding_dim of {', '.join(wider)} is above the model's {width}, which counts: raise the model's "
            "embedding_dim and narrow the other fields".lstrip()
        )


def _tell_rare_labels(model: ManyLabels, further_J2K: Tensor, name: str) -> None:
    """Labels that no row has, and with `esmm` rows that a product cannot explain."""
    for label, (has, without_main) in zip(model.further_labels, further_J2K.sum(2).tolist(), strict=True):
        if not has:
            log.warning(f"{name} no training row has label {label}: its probabilities mean nothing".lstrip())
        if without_main and model.labels.esmm:
            rows = f"{name} {without_main} of {has} rows with label {label} lack the main one".lstrip()
            log.warning(f"{rows}, which training.labels.esmm rules out; check the log, or leave esmm out")


def _tell_scenarios_without_rows(rows_K: Tensor, names: Sequence[str], name: str) -> None:
    without = [scenario for scenario, rows in zip(names, rows_K.tolist(), strict=True) if rows == 0]
    if without:
        message = f"{name} no training rows of {', '.join(without)}: the weights of such a scenario stay as they start"
        log.warning(message.lstrip())
