"""Probabilities and validation metrics of a model on rows of a window."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from msr_models.data.window import Window
from msr_models.evaluation.blocks import Floats
from msr_models.models.base import MultiScenarioModel
from msr_models.training.validation import Validated, validated
from schemas.pipeline_spec import CalibrationMethod

PREDICT_ROWS = 8192


@torch.no_grad()
def predict(model: MultiScenarioModel, window: Window, rows: Tensor) -> Floats:
    """Probability of label 1 from each row's own scenario, float64, in the order of `rows`."""
    model.eval()
    device = next(model.parameters()).device
    probs = [model(window.batch(part).to(device)).double().sigmoid() for part in torch.split(rows, PREDICT_ROWS)]
    return np.asarray(torch.cat(probs).cpu().numpy())


@torch.no_grad()
def predict_labels(model: MultiScenarioModel, window: Window, rows: Tensor) -> Floats:
    """As `predict`, of the main and the further labels: [N, 1 + J]."""
    model.eval()
    device = next(model.parameters()).device
    parts = torch.split(rows, PREDICT_ROWS)
    probs = [model.label_logits(window.batch(part).to(device)).double().sigmoid() for part in parts]
    return np.asarray(torch.cat(probs).cpu().numpy())


def validate(
    model: MultiScenarioModel, window: Window, rows: Tensor, calibration: CalibrationMethod = "none"
) -> Validated:
    """Metrics on rows of a window; `calibration` is fitted on them."""
    probs = predict(model, window, rows)
    labels, scenarios = window.label_N[rows].cpu().numpy(), window.scenario_N[rows].cpu().numpy()
    return validated(probs, labels, scenarios, window.num_scenarios, calibration, window.weights_of(rows))
