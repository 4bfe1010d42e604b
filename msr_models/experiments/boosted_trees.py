"""Gradient-boosted trees on the ids that the models read: a floor from outside, in the form of a trial.

Trees cannot split thousands of ids. A field with at most MOST_CATEGORIES ids stays categorical; of every field, an id
is also replaced by its rate of positives. Rates come from the training rows alone: those of the training rows
themselves out of fold (a row's label is in none of its own features), those of all other rows from all training rows.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import product
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from msr_models.data.window import Window
from msr_models.evaluation.blocks import Floats, Ints
from msr_models.evaluation.metrics import mean_scenario_auc
from msr_models.experiments.code_digest import code_digest
from msr_models.experiments.runner import ExperimentRunner, made_now, measure
from msr_models.experiments.scikit import scikit, torch_threads
from msr_models.experiments.split import Split
from msr_models.experiments.trials import Arrays, Trial, TrialKey
from schemas.errors import TrainingError

BOOSTED_TREES = "boosted_trees"
MOST_CATEGORIES = 255  # scikit-learn's limit
FOLDS = 5
PRIOR_ROWS = 20.0  # rows at the mean rate that every rate is mixed with


@dataclass(frozen=True, kw_only=True, slots=True)
class TreeSettings:
    """What is tuned, by scikit-learn's names. It ends where PATIENCE trees have not improved validation logloss."""

    learning_rate: float
    max_leaf_nodes: int
    max_iter: int = 500
    l2_regularization: float = 1.0
    max_features: float = 0.5


GRID = tuple(
    TreeSettings(learning_rate=rate, max_leaf_nodes=leaves) for rate, leaves in product((0.1, 0.03), (7, 15, 31))
)
PATIENCE = 10


def train_boosted_trees(runner: ExperimentRunner, seed: int, grid: Sequence[TreeSettings] = GRID) -> Trial:
    """The trial of a boosting: of the settings in `grid`, those with the best mean AUC over scenarios on validation.

    seed: of folds and of the columns that a tree may use. Record as of a training, where `epochs` are trees and
    `parameters` their nodes; seconds are of the winner alone. Raises TrainingError without scikit-learn.
    """
    settings = {**runner.conditions("floor"), "seed": seed, "grid": [asdict(point) for point in grid]}
    key = TrialKey(label=f"{BOOSTED_TREES}-s{seed}", settings=settings, code=code_digest([__name__]))
    return runner.stored(key, lambda: _made(runner, seed, grid))


def _made(runner: ExperimentRunner, seed: int, grid: Sequence[TreeSettings]) -> tuple[dict[str, Any], Arrays]:
    started, split = time.perf_counter(), runner.split
    design = Design(split, seed)
    train_NX, validation_NX, test_NX = (design.of(w) for w in (split.train, split.validation, split.test))
    best: tuple[float, Any, float, TreeSettings] | None = None
    for point in grid:
        began = time.perf_counter()
        trees = _boosting(point, seed, design.is_categorical_X)
        with torch_threads():
            trees.fit(train_NX, design.label_N, X_val=validation_NX, y_val=_label(split.validation))
        seconds = time.perf_counter() - began
        score = _validation_auc(split, trees.predict_proba(validation_NX)[:, 1])
        if best is None or score > best[0]:
            best = (score, trees, seconds, point)
    if best is None:
        raise TrainingError("no settings to try; give at least one")
    score, trees, seconds, point = best
    probs_N = trees.predict_proba(test_NX)[:, 1]
    record = {
        "kind": "train",
        "model": BOOSTED_TREES,
        "mode": "floor",
        "seed": seed,
        "share_rate": 0.0,
        "parameters": sum(len(tree.nodes) for (tree,) in trees._predictors),
        "epochs": [int(trees.n_iter_)],
        "seconds": seconds,
        "samples_per_second": len(train_NX) * int(trees.n_iter_) / seconds,
        "epochs_run": float(trees.n_iter_),
        "validation_auc": score,
        "settings_chosen": asdict(point),
        "test": measure(split, probs_N),
        **made_now(started),
    }
    return record, {"test_probs": probs_N}


def _boosting(point: TreeSettings, seed: int, is_categorical_X: NDArray[np.bool_]) -> Any:
    return scikit("ensemble").HistGradientBoostingClassifier(
        **asdict(point),
        categorical_features=is_categorical_X,
        early_stopping=True,
        n_iter_no_change=PATIENCE,
        random_state=seed,
    )


class Design:
    """The features X of a row, fitted on the training rows of a split.

    Per row: the scenario, every field of one slot with at most MOST_CATEGORIES ids (both categorical), the rate of
    every field's ids (the mean over the slots that have one), the rate of user and item in the row's scenario, the
    number of training rows of user and item, the number of behaviours and the mean rate of their items.
    """

    def __init__(self, split: Split, seed: int) -> None:
        self.train, self.layout = split.train, split.train.layout
        self.num_scenarios, self.label_N = split.num_scenarios, _label(split.train)
        self.fold_N = np.random.default_rng([seed, 17]).integers(FOLDS, size=len(self.label_N))
        layout = self.layout
        self.small = [
            f for f in range(layout.num_fields) if layout.num_slots[f] == 1 and layout.num_rows[f] <= MOST_CATEGORIES
        ]
        self.large = [
            f for f in range(layout.num_fields) if layout.num_slots[f] == 1 and layout.num_rows[f] > MOST_CATEGORIES
        ]
        self.train_rows = self._rows(split.train)
        numbers = self.of(split.validation).shape[1] - 1 - len(self.small)
        self.is_categorical_X = np.array([True] * (1 + len(self.small)) + [False] * numbers)

    def of(self, window: Window) -> Floats:
        """[N, X] of the training window or of another one."""
        rows_NS = self._rows(window)
        scenario_N = window.scenario_N.cpu().numpy().astype(np.int64)
        is_training = window is self.train
        starts = self.layout.slot_starts
        columns = [scenario_N.astype(np.float64)]
        columns += [rows_NS[:, starts[f]].astype(np.float64) for f in self.small]
        for f, num in enumerate(self.layout.num_slots):
            slots = slice(starts[f], starts[f] + num)
            codes_NS, known = rows_NS[:, slots], self.train_rows[:, slots]
            columns.append(self._mean_rate(codes_NS, known, self.layout.num_rows[f], is_training))
        own_train_N = self.train.scenario_N.cpu().numpy().astype(np.int64)
        for f in self.large:
            size, at = self.layout.num_rows[f], starts[f]
            cell_N1 = np.where(rows_NS[:, at] > 0, scenario_N * size + rows_NS[:, at], 0)[:, None]
            known_N1 = np.where(self.train_rows[:, at] > 0, own_train_N * size + self.train_rows[:, at], 0)[:, None]
            columns.append(self._mean_rate(cell_N1, known_N1, size * self.num_scenarios, is_training))
            counts_R = np.bincount(self.train_rows[:, at], minlength=size)
            columns.append(np.where(rows_NS[:, at] > 0, counts_R[rows_NS[:, at]], 0).astype(np.float64))
        columns += list(self._behaviours(window, is_training))
        return np.stack(columns, axis=1)

    def _rows(self, window: Window) -> Ints:
        """Rows of a window's ids; 0 for ids that later days have added."""
        rows_NS: Ints = self.layout.rows_of(window.slot_ids_NS.cpu().numpy().astype(np.int64))
        return np.where(rows_NS < np.repeat(self.layout.num_rows, self.layout.num_slots), rows_NS, 0)

    def _mean_rate(self, codes_NS: Ints, known_MS: Ints, size: int, is_training: bool) -> Floats:
        """Mean over the slots with a code (code 0 is none) of the code's rate of positives in the training rows."""
        if not is_training:
            return _mean_of_rates(codes_NS, known_MS, self.label_N, size)
        out_N = np.empty(len(codes_NS))
        for outside_N, inside_N in self._folds():
            out_N[inside_N] = _mean_of_rates(codes_NS[inside_N], known_MS[outside_N], self.label_N[outside_N], size)
        return out_N

    def _folds(self) -> Iterator[tuple[NDArray[np.bool_], NDArray[np.bool_]]]:
        for fold in range(FOLDS):
            inside_N = self.fold_N == fold
            yield ~inside_N, inside_N

    def _behaviours(self, window: Window, is_training: bool) -> Iterator[Floats]:
        """The number of behaviours, at most the layout's, and the mean rate of their items."""
        if not self.layout.hist_length:
            return
        every_N = torch.arange(len(window), device=window.label_N.device)
        item_NL = window.batch(every_N).hist_ids_BLA[:, :, 0].cpu().numpy().astype(np.int64)
        yield (item_NL > 0).sum(1).astype(np.float64)
        f = self.layout.item_field
        item_NL = np.where(item_NL < self.layout.num_rows[f], item_NL, 0)
        known_M1 = self.train_rows[:, self.layout.slot_starts[f]][:, None]
        yield self._mean_rate(item_NL, known_M1, self.layout.num_rows[f], is_training)


def _mean_of_rates(codes_NS: Ints, known_MS: Ints, label_M: Floats, size: int) -> Floats:
    """Mean rate of each row's codes, [N]; a code's rate is drawn to the mean rate as by PRIOR_ROWS more rows, and a row
    without codes has the mean rate.
    """
    mean = label_M.mean()
    label_MS = np.broadcast_to(label_M[:, None], known_MS.shape)
    rows_R = np.bincount(known_MS.ravel(), minlength=size)
    positives_R = np.bincount(known_MS.ravel(), weights=label_MS.ravel(), minlength=size)
    rates_R = (positives_R + PRIOR_ROWS * mean) / (rows_R + PRIOR_ROWS)
    is_there_NS = codes_NS > 0
    count_N = is_there_NS.sum(1)
    total_N = np.where(is_there_NS, rates_R[codes_NS], 0.0).sum(1)
    rates_N: Floats = np.where(count_N > 0, total_N / np.maximum(count_N, 1), mean)
    return rates_N


def _label(window: Window) -> Floats:
    label_N: Floats = window.label_N.cpu().numpy().astype(np.float64)
    return label_N


def _validation_auc(split: Split, probs_N: Floats) -> float:
    rows = split.validation
    auc = mean_scenario_auc(probs_N, _label(rows), rows.scenario_N.cpu().numpy(), split.num_scenarios)
    if auc is None:
        raise TrainingError("the validation rows have one class, so no settings can be chosen; use more rows")
    return float(auc)
