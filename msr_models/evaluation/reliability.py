"""Reliability of probabilities: mean prediction against observed rate in bins of equal size, and their distance."""

from __future__ import annotations

import numpy as np

from msr_models.evaluation.blocks import Array, Floats, Ints, weighted_rows

BINS = 10


def bin_means(
    prob: Array, label: Array, bins: int = BINS, weight: Array | None = None
) -> list[tuple[float, float, float]]:
    """(mean prediction, observed rate, rows) of up to `bins` bins with equally many rows, ascending.

    With weights a bin's rows are their sum. Where all weights are whole numbers, so are those of the bins, as if each
    row stood there so often; else the bins have equal weight, and a row may lie in two of them in part.
    """
    weight, (prob, label) = weighted_rows(weight, prob, label)
    if len(prob) == 0:
        return []
    if weight is not None:
        return _weighted_bin_means(prob, label, weight, bins)
    value_U, unique_N, rows_U = np.unique(prob, return_inverse=True, return_counts=True)
    # Rows of one prediction may lie in two bins: each counts as their mean, whatever their order
    rate_U = np.bincount(unique_N, weights=label) / rows_U
    edges = np.unique(np.linspace(0, len(prob), bins + 1).astype(np.int64))
    rows = np.diff(edges)
    predicted, observed = (
        np.add.reduceat(np.repeat(each_U, rows_U).astype(np.float64), edges[:-1]) / rows for each_U in (value_U, rate_U)
    )
    return list(zip(predicted.tolist(), observed.tolist(), rows.tolist(), strict=True))


def _weighted_bin_means(prob: Array, label: Array, weight: Floats, bins: int) -> list[tuple[float, float, float]]:
    """Sums up to each edge, between the different predictions by interpolation; a bin's own are their differences."""
    order = np.lexsort((weight, label, prob))
    value_U, first_U = np.unique(prob[order], return_index=True)
    rows_U = np.add.reduceat(weight[order], first_U)
    positives_U = np.add.reduceat(weight[order] * label[order], first_U)
    ends_U = np.concatenate([[0.0], np.cumsum(rows_U)])
    edges = np.linspace(0, ends_U[-1], bins + 1)
    edges = np.unique(np.floor(edges) if (weight == np.floor(weight)).all() else edges)
    rows = np.diff(edges)
    predicted, observed = (
        np.diff(np.interp(edges, ends_U, np.concatenate([[0.0], np.cumsum(sum_U)]))) / rows
        for sum_U in (rows_U * value_U, positives_U)
    )
    return list(zip(predicted.tolist(), observed.tolist(), rows.tolist(), strict=True))


def calibration_error(prob: Array, label: Array, bins: int = BINS, weight: Array | None = None) -> float | None:
    """ECE: mean distance between prediction and observed rate of the bins, weighted by rows; None without rows.

    The ECE of a perfectly calibrated model is not 0: with n rows per bin and rate p about sqrt(2 p (1 - p) / (pi n)).
    """
    found = bin_means(prob, label, bins, weight)
    if not found:
        return None
    predicted, observed, rows = np.array(found).T
    return float(np.abs(predicted - observed) @ rows / rows.sum())


def scenario_calibration_errors(
    prob_N: Array, label_N: Array, scenario_N: Array, num_scenarios: int, weight_N: Array | None = None
) -> list[float | None]:
    """ECE of each scenario 0 .. num_scenarios - 1 and, last, of all rows together."""
    order_N: Ints = np.argsort(scenario_N, kind="stable")
    first_K = np.searchsorted(np.asarray(scenario_N)[order_N], np.arange(1, num_scenarios))
    parts = [*np.split(order_N, first_K), order_N]
    weights = [None if weight_N is None else weight_N[part] for part in parts]
    return [
        calibration_error(prob_N[part], label_N[part], weight=weight)
        for part, weight in zip(parts, weights, strict=True)
    ]
