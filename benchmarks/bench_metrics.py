"""Exact metrics from one sort, against a loop that calls scikit-learn per group.

AUC per scenario and per session, and a whole evaluation (AUC, log loss, calibration per scenario and over all rows,
S-GAUC). Scores are all distinct or take 10,000 values (ties). The run also compares the AUCs of both.

  python -m benchmarks.bench_metrics            # 1 M and 10 M rows
  python -m benchmarks.bench_metrics --quick    # 200 k rows
"""

from __future__ import annotations

import argparse
import time
import tracemalloc
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt
from sklearn.metrics import log_loss, roc_auc_score

from benchmarks.harness import Table, Target, median_seconds, parser, report
from msr_models.evaluation.metrics import grouped_auc, scenario_metrics, session_ids

SIZES, QUICK_SIZES = (1_000_000, 10_000_000), (200_000,)
SCENARIOS, ROWS_PER_SESSION, DAYS, TIED_VALUES = 12, 20, 3, 10_000
SAMPLED_SESSIONS = 1_000
HIGHEST_SECONDS = 10.0
COLUMNS = ("metric", "rows", "scikit-learn s", "ours s", "rows/s", "ratio", "extra MB", "AUC differs by")
ONE_SORT, ONE_SESSION_SORT, EVERYTHING = "AUC + interval by scenario", "AUC + interval by session", "whole evaluation"

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Rows:
    """N impressions; session_N numbers the pairs (day_N, user_N), user_N are 64-bit hashes."""

    prob_N: npt.NDArray[np.float64]
    label_N: Ints
    scenario_N: Ints
    day_N: Ints
    user_N: Ints
    session_N: Ints


@dataclass(frozen=True, kw_only=True)
class PerGroup:
    """scikit-learn's seconds, the groups it measured and their AUCs (NaN where a group has one class)."""

    seconds: float
    group_G: Ints
    auc_G: npt.NDArray[np.float64]


def make_rows(count: int, *, tied: bool, seed: int = 0) -> Rows:
    """Labels drawn from the probabilities, scenarios of unequal size, about ROWS_PER_SESSION rows per session."""
    rng = np.random.default_rng(seed)
    prob_N = rng.beta(1, 6, count)
    label_N = (rng.random(count) < prob_N).astype(np.int64)
    user_U = rng.integers(-(2**63), 2**63 - 1, max(count // ROWS_PER_SESSION // DAYS, 1))
    user_N, day_N = user_U[rng.integers(0, len(user_U), count)], rng.integers(0, DAYS, count)
    return Rows(
        prob_N=np.round(prob_N * TIED_VALUES) / TIED_VALUES if tied else prob_N,
        label_N=label_N,
        scenario_N=np.minimum(rng.geometric(0.25, count), SCENARIOS) - 1,
        day_N=day_N,
        user_N=user_N,
        session_N=session_ids(day_N, user_N),
    )


def sklearn_aucs(rows: Rows, group_N: Ints, *, sample: int | None, seed: int = 1) -> PerGroup:
    """roc_auc_score per group in a loop over `sample` groups (None: all), its time scaled to all groups.

    Rows are gathered by one sort first (timed too): a loop that masks all rows once per session would take hours.
    """
    start = time.perf_counter()
    order_N = np.argsort(group_N, kind="stable")
    group_S, first_S = np.unique(group_N[order_N], return_index=True)
    end_S = np.append(first_S[1:], len(order_N))
    gathered = time.perf_counter() - start
    chosen = np.arange(len(group_S))
    if sample is not None and sample < len(group_S):
        chosen = np.sort(np.random.default_rng(seed).choice(len(group_S), sample, replace=False))
    start = time.perf_counter()
    auc_G = np.array([_sklearn_auc(rows, order_N[first_S[g] : end_S[g]]) for g in chosen])
    looped = time.perf_counter() - start
    return PerGroup(seconds=gathered + looped * len(group_S) / len(chosen), group_G=group_S[chosen], auc_G=auc_G)


def _sklearn_auc(rows: Rows, part_N: Ints) -> float:
    label_N = rows.label_N[part_N]
    both = 0 < label_N.sum() < len(label_N)
    return float(roc_auc_score(label_N, rows.prob_N[part_N])) if both else float("nan")


def sklearn_losses(rows: Rows) -> float:
    """Seconds of log_loss per scenario and over all rows."""
    start = time.perf_counter()
    for mask_N in (*(rows.scenario_N == k for k in range(SCENARIOS)), np.ones(len(rows.label_N), dtype=np.bool_)):
        log_loss(rows.label_N[mask_N], rows.prob_N[mask_N], labels=[0, 1])
    return time.perf_counter() - start


def largest_difference(ours_G: npt.NDArray[np.float64], theirs: PerGroup) -> float:
    """Largest absolute difference of the AUCs; infinite if only one of them is NaN."""
    ours = ours_G[theirs.group_G]
    if (np.isnan(ours) != np.isnan(theirs.auc_G)).any():
        return float("inf")
    return float(np.nanmax(np.abs(ours - theirs.auc_G), initial=0.0))


def extra_megabytes(work: Callable[[], object]) -> float:
    """Peak memory of `work` in MB."""
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1] / 2**20
    finally:
        tracemalloc.stop()


def measure(rows: Rows, table: Table, *, repeat: int) -> dict[str, float]:
    """Add these rows' measurements to the table; returns our seconds per metric."""
    count, sessions = len(rows.prob_N), int(rows.session_N.max()) + 1
    ours: dict[str, float] = {}

    def add(metric: str, work: Callable[[], object], theirs: float | None, difference: float | None) -> None:
        ours[metric] = seconds = median_seconds(work, repeat=repeat)
        ratio = None if theirs is None else theirs / seconds
        table.add(metric, count, theirs, seconds, count / seconds, ratio, extra_megabytes(work), difference)

    def auc_by(group_N: Ints, groups: int) -> npt.NDArray[np.float64]:
        return grouped_auc(rows.prob_N, rows.label_N, group_N, groups).auc_G

    by_scenario = sklearn_aucs(rows, rows.scenario_N, sample=None)
    by_session = sklearn_aucs(rows, rows.session_N, sample=SAMPLED_SESSIONS)
    by_both = sklearn_aucs(rows, rows.scenario_N * sessions + rows.session_N, sample=SAMPLED_SESSIONS)
    over_all = sklearn_aucs(rows, np.zeros(count, dtype=np.int64), sample=None)
    for metric, theirs, group_N, groups in (
        (ONE_SORT, by_scenario, rows.scenario_N, SCENARIOS),
        (ONE_SESSION_SORT, by_session, rows.session_N, sessions),
    ):
        difference = largest_difference(auc_by(group_N, groups), theirs)
        add(metric, partial(auc_by, group_N, groups), theirs.seconds, difference)
    add("session ids of (day, user)", lambda: session_ids(rows.day_N, rows.user_N), None, None)
    everything = [part.seconds for part in (by_scenario, by_session, by_both, over_all)]
    add(
        EVERYTHING,
        lambda: scenario_metrics(rows.prob_N, rows.label_N, rows.scenario_N, rows.session_N, SCENARIOS),
        sum(everything) + sklearn_losses(rows),
        None,
    )
    return ours


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, print, write."""
    options: argparse.Namespace = parser(__doc__ or "").parse_args(argv)
    tables, targets = [], []
    for tied in (False, True):
        kind = f"scores tied in {TIED_VALUES:,} values" if tied else "scores all different"
        table = Table(title=f"Metrics, {kind}", columns=COLUMNS, baseline="scikit-learn per group in a loop")
        tables.append(table)
        for count in QUICK_SIZES if options.quick else SIZES:
            ours = measure(make_rows(count, tied=tied), table, repeat=3)
        if not options.quick:
            targets += [target(metric, kind, ours[metric]) for metric in (ONE_SORT, ONE_SESSION_SORT, EVERYTHING)]
    report(
        "metrics",
        tables,
        command="python -m benchmarks.bench_metrics" + (" --quick" if options.quick else ""),
        libraries=["numpy", "scikit-learn"],
        options=options,
        targets=targets,
        notes=[
            f"scikit-learn per session: a loop over {SAMPLED_SESSIONS:,} random sessions, its time scaled to all.",
            "Whole evaluation: AUC with interval, log loss, calibration and S-GAUC of 12 scenarios and all rows; "
            "scikit-learn computes no intervals and no calibration.",
            "Both run in one thread. Extra MB: peak memory in addition to the inputs.",
        ],
    )


def target(metric: str, kind: str, seconds: float) -> Target:
    """An upper limit of seconds for the most rows."""
    what = f"{metric}, {SIZES[-1] // 10**6} M rows, {kind}"
    met = seconds <= HIGHEST_SECONDS
    return Target(what=what, required=f"<= {HIGHEST_SECONDS:g} s", measured=f"{seconds:.2f} s", met=met)


if __name__ == "__main__":
    main()
