"""Reliability of probabilities: mean prediction against observed rate in bins of equal size, and their distance."""

from __future__ import annotations

import numpy as np

from msr_models.evaluation.blocks import Array, Ints

BINS = 10


def bin_means(prob: Array, label: Array, bins: int = BINS) -> list[tuple[float, float, int]]:
    """(mean prediction, observed rate, rows) of up to `bins` bins with equally many rows, ascending."""
    if len(prob) == 0:
        return []
    value_U, unique_N, rows_U = np.unique(prob, return_inverse=True, return_counts=True)
    # Rows of one prediction may lie in two bins: each counts as their mean, whatever their order
    rate_U = np.bincount(unique_N, weights=label) / rows_U
    edges = np.unique(np.linspace(0, len(prob), bins + 1).astype(np.int64))
    rows = np.diff(edges)
    predicted, observed = (
        np.add.reduceat(np.repeat(each_U, rows_U).astype(np.float64), edges[:-1]) / rows for each_U in (value_U, rate_U)
    )
    return list(zip(predicted.tolist(), observed.tolist(), rows.tolist(), strict=True))


def calibration_error(prob: Array, label: Array, bins: int = BINS) -> float | None:
    """ECE: mean distance between prediction and observed rate of the bins, weighted by rows; None without rows.

    The ECE of a perfectly calibrated model is not 0: with n rows per bin and rate p about sqrt(2 p (1 - p) / (pi n)).
    """
    found = bin_means(prob, label, bins)
    if not found:
        return None
    predicted, observed, rows = np.array(found).T
    return float(np.abs(predicted - observed) @ rows / rows.sum())


def scenario_calibration_errors(
    prob_N: Array, label_N: Array, scenario_N: Array, num_scenarios: int
) -> list[float | None]:
    """ECE of each scenario 0 .. num_scenarios - 1 and, last, of all rows together."""
    order_N: Ints = np.argsort(scenario_N, kind="stable")
    first_K = np.searchsorted(np.asarray(scenario_N)[order_N], np.arange(1, num_scenarios))
    parts = [*np.split(order_N, first_K), order_N]
    return [calibration_error(prob_N[part], label_N[part]) for part in parts]
