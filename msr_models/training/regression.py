"""Fit a logistic regression to its optimum: L-BFGS on all rows at once, along a path of L2 strengths.

Minimises Σ_rows cross entropy + λ/2 |w - w₀|² over the ids' weights w and the scenarios' biases, which are not
penalised; w₀: the weights that the run starts from, zeros or those of the day before. λ falls along STRENGTHS, every
fit starts where the one before ended, and the strength that validates best is kept. Epochs of small steps end too
early or overfit, and a floor that other models are compared with must be the best that a linear model can do.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse as sp
import torch
from scipy.optimize import minimize
from scipy.special import expit

from msr_models.data.source import ResidentRows
from msr_models.evaluation.blocks import Floats
from msr_models.models.logistic_regression import LogisticRegression
from msr_models.training.state import Best

log = logging.getLogger(__name__)

# (mean AUC over scenarios or None, logloss, score) of the model as it is
Validate = Callable[[], tuple[float | None, float, float]]
STRENGTHS = (300.0, 100.0, 30.0, 10.0, 3.0, 1.0)
# Strengths in a row that may validate worse than the best one before the path ends
PATIENCE = 1
ITERATIONS = 100
ROWS = 65_536


@dataclass(frozen=True, slots=True)
class Design:
    """X [N, rows of the table + K], the terms of every row's logit; offset_N: its base rate; label_N."""

    x: Any
    offset_N: Floats
    label_N: Floats

    @classmethod
    def of(cls, model: LogisticRegression, data: ResidentRows) -> Design:
        """Of all rows of `data`."""
        num_rows, num_scenarios = model.embedding.weight.shape[0], model.num_scenarios
        parts, offsets, labels = [], [], []
        for rows in torch.split(data.rows, ROWS):
            batch = data.window.batch(rows).to(model.bias_K.device)
            terms_BJ, weights_BJ = (t.cpu().numpy() for t in model.terms(batch))
            scenario_B = batch.scenario_B.cpu().numpy()
            columns = np.concatenate([terms_BJ, num_rows + scenario_B[:, None]], axis=1)
            values = np.concatenate([weights_BJ, np.ones((len(rows), 1))], axis=1)
            starts = np.arange(len(rows) + 1) * columns.shape[1]
            shape = (len(rows), num_rows + num_scenarios)
            part = sp.csr_matrix((values.ravel(), columns.ravel(), starts), shape=shape)
            part.sum_duplicates()
            part.eliminate_zeros()
            parts.append(part)
            offsets.append(model.base_logit_K.cpu().double().numpy()[scenario_B])
            labels.append(batch.label_B.cpu().double().numpy())
        return cls(sp.vstack(parts, format="csr"), np.concatenate(offsets), np.concatenate(labels))

    def cross_entropy(self, weights: Floats) -> tuple[float, Floats]:
        """(sum over rows, its gradient)."""
        logit_N = self.x @ weights + self.offset_N
        entropy = float((np.logaddexp(0.0, logit_N) - self.label_N * logit_N).sum())
        return entropy, self.x.T @ (expit(logit_N) - self.label_N)


def fit_path(model: LogisticRegression, data: ResidentRows, validate: Validate, name: str = "") -> Best:
    """Fit `model` in place; returns the kept strength (its place in STRENGTHS, 1-based, as epoch) and its validation.

    Deterministic, on the CPU, in float64.
    """
    design = Design.of(model, data)
    start = np.concatenate([_weights(model.embedding.weight), _weights(model.bias_K)])
    is_penalised = np.arange(len(start)) < model.embedding.weight.shape[0]
    weights, best, worse = start, None, 0
    for number, strength in enumerate(STRENGTHS, start=1):
        weights, entropy = _fit(design, weights, start, np.where(is_penalised, strength, 0.0))
        _set_weights(model, weights)
        auc, cross_entropy, score = validate()
        log.info(
            f"{name} L2 {strength:g}: train loss {entropy / len(design.label_N):.4f}, validation mean AUC "
            f"{'none' if auc is None else f'{auc:.4f}'}, logloss {cross_entropy:.4f}".lstrip()
        )
        worse = 0 if best is None or score > best.score else worse + 1
        if worse == 0:
            kept = copy.deepcopy(model.state_dict())
            best = Best(score=score, epoch=number, auc=auc, logloss=cross_entropy, weights=kept)
        elif worse > PATIENCE:
            break
    assert best is not None
    model.load_state_dict(best.weights)
    return best


def _fit(design: Design, weights: Floats, start: Floats, strength: Floats) -> tuple[Floats, float]:
    """(the optimum, its summed cross entropy) from `weights`; strength: λ of every weight."""

    def objective(weights: Floats) -> tuple[float, Floats]:
        entropy, gradient = design.cross_entropy(weights)
        pull = strength * (weights - start)
        return entropy + 0.5 * float(pull @ (weights - start)), gradient + pull

    result = minimize(objective, weights, jac=True, method="L-BFGS-B", options={"maxiter": ITERATIONS, "ftol": 1e-8})
    entropy, _ = design.cross_entropy(result.x)
    return np.asarray(result.x), entropy


def _weights(parameter: torch.Tensor) -> Floats:
    return parameter.detach().cpu().double().numpy().ravel()


@torch.no_grad()
def _set_weights(model: LogisticRegression, weights: Floats) -> None:
    num_rows = model.embedding.weight.shape[0]
    model.embedding.weight.copy_(torch.from_numpy(weights[:num_rows, None]))
    model.bias_K.copy_(torch.from_numpy(weights[num_rows:]))
