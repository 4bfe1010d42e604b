"""Fit a linear model of the ids to its optimum: L-BFGS on all rows at once, along a path of L2 strengths.

Minimises Σ_rows cross entropy + λ/2 |w - w₀|² over the ids' weights w and a bias per scenario, which is not penalised;
w₀: the weights that the run starts from, zeros or those of the day before. λ falls along STRENGTHS, every fit starts
where the one before ended, and the strength that validates best is kept. Epochs of small steps end before the optimum
or behind it, and what other models are compared with, or begin with, must be the best that a linear model can do.

A scenario without rows keeps its bias. Of more than MAX_ROWS rows every n-th is used, which keeps the design matrix
below a gigabyte; ids that none of these rows has keep their weights.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse as sp
import torch
from scipy.optimize import minimize
from scipy.special import expit
from torch import Tensor

from msr_models.data.source import ResidentRows
from msr_models.evaluation.blocks import Array, Floats
from msr_models.modules.inputs import InputLayer
from msr_models.training.validation import Validated, validated
from schemas.pipeline_spec import CalibrationMethod, TrainerConfig

log = logging.getLogger(__name__)

STRENGTHS = (300.0, 100.0, 30.0, 10.0, 3.0, 1.0)
# Strengths in a row that may validate worse than the best one before the path ends
PATIENCE = 1
ITERATIONS = 100
ROWS = 65_536
MAX_ROWS = 2_000_000


@dataclass(frozen=True, kw_only=True, slots=True)
class LinearFit:
    """Weights and biases of the strength that validated best, its place in STRENGTHS (1-based) and its validation."""

    weight_R: Tensor
    bias_K: Tensor
    place: int
    validation: Validated


@dataclass(frozen=True, slots=True)
class Design:
    """x [N, R + K]: factors of the ids' weights and of the biases; offset_N: base rates as logits."""

    x: Any
    offset_N: Floats
    label_N: Floats
    scenario_N: Array

    @classmethod
    def of(cls, inputs: InputLayer, base_logit_K: Tensor, data: ResidentRows) -> Design:
        """Of all rows of `data`; inputs: vectors of width 1."""
        num_rows, num_scenarios = len(inputs.table.rows_of_terms()), len(base_logit_K)
        parts, labels, scenarios = [], [], []
        for rows in torch.split(data.rows, ROWS):
            batch = data.window.batch(rows).to(base_logit_K.device)
            row_BJ, factor_BJ = (t.cpu().numpy() for t in inputs.terms(batch))
            scenario_B = batch.scenario_B.cpu().numpy()
            columns = np.concatenate([row_BJ, num_rows + scenario_B[:, None]], axis=1)
            factors = np.concatenate([factor_BJ, np.ones((len(rows), 1))], axis=1)
            starts = np.arange(len(rows) + 1) * columns.shape[1]
            shape = (len(rows), num_rows + num_scenarios)
            part = sp.csr_matrix((factors.ravel(), columns.ravel(), starts), shape=shape)
            part.sum_duplicates()
            part.eliminate_zeros()
            parts.append(part)
            labels.append(batch.label_B.cpu().double().numpy())
            scenarios.append(scenario_B)
        scenario_N = np.concatenate(scenarios)
        offset_N = base_logit_K.detach().cpu().double().numpy()[scenario_N]
        return cls(sp.vstack(parts, format="csr"), offset_N, np.concatenate(labels), scenario_N)

    def cross_entropy(self, weights: Floats) -> tuple[float, Floats]:
        """(sum over rows, its gradient)."""
        logit_N = self.x @ weights + self.offset_N
        entropy = float((np.logaddexp(0.0, logit_N) - self.label_N * logit_N).sum())
        return entropy, self.x.T @ (expit(logit_N) - self.label_N)

    def validate(self, weights: Floats, num_scenarios: int, calibration: CalibrationMethod) -> Validated:
        """Metrics of the weights on these rows."""
        probs = expit(self.x @ weights + self.offset_N)
        return validated(probs, self.label_N, self.scenario_N, num_scenarios, calibration)


def fit_path(
    inputs: InputLayer,
    base_logit_K: Tensor,
    data: ResidentRows,
    validation: ResidentRows,
    config: TrainerConfig,
    name: str = "",
) -> LinearFit:
    """The best fit of logit = Σ terms of `inputs` (width 1) + base_logit_K + bias_K; changes nothing.

    config: its `select_on` (after its `calibration`) chooses the strength that is kept; the rest is not used. On the
    CPU in float64, deterministic.
    """
    every = -(-data.num_rows // MAX_ROWS)
    if every > 1:
        log.info(f"{name} linear: fitted on every {every}th of {data.num_rows:,} rows".lstrip())
    sample = ResidentRows(data.window, data.rows[::every])
    design, held_out = (Design.of(inputs, base_logit_K, rows) for rows in (sample, validation))
    weight = inputs.table.rows_of_terms().detach().cpu().double().numpy().ravel()
    num_rows, num_scenarios = len(weight), len(base_logit_K)
    start = np.concatenate([weight, np.zeros(num_scenarios)])
    is_penalised = np.arange(len(start)) < num_rows
    weights, best, best_score, worse = start, None, -np.inf, 0
    for place, strength in enumerate(STRENGTHS, start=1):
        weights = _minimum(design, weights, start, np.where(is_penalised, strength, 0.0))
        measured = held_out.validate(weights, num_scenarios, config.calibration)
        entropy = design.cross_entropy(weights)[0] / len(design.label_N)
        shown = "none" if measured.auc is None else f"{measured.auc:.4f}"
        line = f"{name} linear, L2 {strength:g}: train loss {entropy:.4f}, validation mean AUC {shown}"
        losses = f"logloss {measured.logloss:.4f} ({measured.calibrated_logloss:.4f} calibrated)"
        log.info(f"{line}, {losses}".lstrip())
        scored = measured.score(config.select_on)
        if best is None or scored > best_score:
            best_score, worse = scored, 0
            found = torch.from_numpy(weights).float()
            best = LinearFit(weight_R=found[:num_rows], bias_K=found[num_rows:], place=place, validation=measured)
        elif (worse := worse + 1) > PATIENCE:
            break
    assert best is not None
    return best


def _minimum(design: Design, weights: Floats, start: Floats, strength: Floats) -> Floats:
    """From `weights`; strength: λ of every weight."""

    def objective(weights: Floats) -> tuple[float, Floats]:
        entropy, gradient = design.cross_entropy(weights)
        pull = strength * (weights - start)
        return entropy + 0.5 * float(pull @ (weights - start)), gradient + pull

    result = minimize(objective, weights, jac=True, method="L-BFGS-B", options={"maxiter": ITERATIONS, "ftol": 1e-8})
    return np.asarray(result.x)
