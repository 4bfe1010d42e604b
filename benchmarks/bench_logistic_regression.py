"""Logistic regression on the target models' fields and days: a baseline that they must beat.

Inputs: one-hot encodings of every field (several ids per row for multi-valued fields) and of the scenario, and the
row's behaviours as a bag of items with weights 1/length. It is trained on the target's training days; the penalty C is
chosen by the mean AUC over scenarios on the target's validation days. Prints test AUC per scenario next to the selected
and the no-sharing arm of each model, read from `evaluations`.

  python -m benchmarks.bench_logistic_regression --dataset generated --from 2026-01-08 --to 2026-01-10
"""

from __future__ import annotations

import json
import logging
import platform
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import scipy.sparse as sp
import sklearn
from pydantic import Field
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from jobs.cli import StepArgs, StepOptions, run_step
from jobs.reporting.collect import NO_SHARING, SELECTED, ReportData, collect
from jobs.reporting.formats import difference, number, signed
from lake.reader import read_table
from msr_models.evaluation.gains import ALL_ROWS, MEAN
from schemas.dataset_spec import DatasetSpec
from schemas.errors import TrainingError
from schemas.text import aligned_table

log = logging.getLogger(__name__)

PENALTIES = (0.01, 0.03, 0.1, 0.3, 1.0)
QUICK_PENALTIES = (0.1,)
MAX_ITERATIONS = 300

Aucs = dict[int, float | None]  # scenario id, MEAN or ALL_ROWS -> AUC; None if the rows have only one class


@dataclass(frozen=True, kw_only=True)
class Rows:
    """Rows of some days: x [N, columns] sparse, the rest [N]."""

    x: sp.csr_matrix
    scenario: np.ndarray
    label: np.ndarray


@dataclass(frozen=True, kw_only=True)
class DayResult:
    """Chosen penalty, duration and test AUC of one day."""

    ds: date
    penalty: float
    seconds: float
    aucs: Aucs


def measure_day(dataset: DatasetSpec, ds: date, penalties: Sequence[float], *, history: bool) -> DayResult:
    """Choose C on the validation days and test on ds. Raises TrainingError if the window is too short."""
    window = dataset.window_before(ds, dataset.training.window_days)
    if window is None:
        days = dataset.training.window_days
        raise TrainingError(f"{ds}: not all {days} days before it have features; give a later day")
    held_out = dataset.training.validation_days
    train_days, validation_days = window[:-held_out], window[-held_out:]
    started = time.monotonic()
    frames = [read_day_rows(dataset, days, history=history) for days in (train_days, validation_days, [ds])]
    sizes = column_sizes(dataset, frames)
    train, validation, test = (encode(dataset, frame, sizes) for frame in frames)
    fitted = []
    for penalty in penalties:
        model = LogisticRegression(C=penalty, solver="lbfgs", max_iter=MAX_ITERATIONS).fit(train.x, train.label)
        fitted.append((scenario_aucs(model, validation, dataset.num_scenarios)[MEAN] or 0.0, penalty, model))
        log.info(f"{ds} C={penalty:g}: validation {fitted[-1][0]:.4f}, {int(model.n_iter_[0])} iterations")
    _, penalty, model = max(fitted, key=lambda f: f[0])
    aucs = scenario_aucs(model, test, dataset.num_scenarios)
    return DayResult(ds=ds, penalty=penalty, seconds=time.monotonic() - started, aucs=aucs)


def read_day_rows(dataset: DatasetSpec, days: Sequence[date], *, history: bool) -> pa.Table:
    """Features of `days`, with `history` also the column `history` (item ids, oldest first)."""
    fields = [f.column for f in dataset.encoded_fields]
    rows = read_table(
        dataset, "scenario_features", days=days,
        columns=["ds", "scenario_id", "user_key", "label", "hist_end", *fields],
    )  # fmt: skip
    if rows.num_rows == 0:
        raise TrainingError(f"no features on {days[0]} .. {days[-1]}; run build_scenario_features for those days")
    return rows.append_column("history", _histories(dataset, rows, days)) if history else rows


def _histories(dataset: DatasetSpec, rows: pa.Table, days: Sequence[date]) -> pa.ChunkedArray:
    """The last max_length behaviours before each row, cut from its user's list by hist_end."""
    users = read_table(dataset, "behaviour_sequences", days=days, columns=["ds", "user_key", "hist_item_ids"])
    keys = users.select(["ds", "user_key"]).append_column("user_row", pa.array(np.arange(users.num_rows)))
    numbered = rows.select(["ds", "user_key"]).append_column("row", pa.array(np.arange(rows.num_rows)))
    joined = numbered.join(keys, keys=["ds", "user_key"], join_type="left outer").sort_by("row")
    if joined["user_row"].null_count:
        lost = joined["user_row"].null_count
        raise TrainingError(f"{lost} rows of {days[0]} .. {days[-1]} have no behaviours; run build_behaviour_sequences")
    lists = users["hist_item_ids"].combine_chunks()
    starts = np.concatenate([[0], np.cumsum(pc.list_value_length(lists).to_numpy(zero_copy_only=False))])
    begin = starts[joined["user_row"].to_numpy()]
    end = rows["hist_end"].to_numpy().astype(np.int64)
    first = np.maximum(end - dataset.sequence.max_length, 0)
    lengths = end - first
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    picked = np.arange(offsets[-1]) + np.repeat(begin + first - offsets[:-1], lengths)
    items = pc.list_flatten(lists).take(pa.array(picked))
    return pa.chunked_array([pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), items)])


def column_sizes(dataset: DatasetSpec, frames: Sequence[pa.Table]) -> dict[str, int]:
    """Ids per column, 0 included, over all frames: the width of each one-hot block."""
    names = [*(f.column for f in dataset.encoded_fields), *({"history"} & set(frames[0].column_names))]
    return {name: 1 + max(pc.max(_flat(frame[name])).as_py() or 0 for frame in frames) for name in names}


def encode(dataset: DatasetSpec, rows: pa.Table, sizes: dict[str, int]) -> Rows:
    """One-hot blocks side by side: scenario, fields, behaviours (weight 1/length)."""
    count = rows.num_rows
    scenario = rows["scenario_id"].to_numpy()
    blocks = [_block(np.arange(count), scenario, np.ones(count), count, dataset.num_scenarios)]
    for name, size in sizes.items():
        values = rows[name].combine_chunks()
        lengths = _lengths(values)
        weights = np.repeat(1 / np.maximum(lengths, 1), lengths) if name == "history" else np.ones(lengths.sum())
        ids = _flat(values).to_numpy(zero_copy_only=False)
        blocks.append(_block(np.repeat(np.arange(count), lengths), ids, weights, count, size))
    return Rows(x=sp.hstack(blocks, format="csr"), scenario=scenario, label=rows["label"].to_numpy())


def scenario_aucs(model: LogisticRegression, rows: Rows, num_scenarios: int) -> Aucs:
    """AUC per scenario, over all rows, and the mean over scenarios with both classes."""
    score = model.decision_function(rows.x)
    aucs: Aucs = {k: _auc(rows.label[rows.scenario == k], score[rows.scenario == k]) for k in range(num_scenarios)}
    known = [auc for auc in aucs.values() if auc is not None]
    return aucs | {MEAN: float(np.mean(known)) if known else None, ALL_ROWS: _auc(rows.label, score)}


def _auc(label: np.ndarray, score: np.ndarray) -> float | None:
    return float(roc_auc_score(label, score)) if 0 < label.sum() < len(label) else None


def _flat(values: pa.Array | pa.ChunkedArray) -> pa.Array | pa.ChunkedArray:
    return pc.list_flatten(values) if pa.types.is_list(values.type) else values


def _lengths(values: pa.Array) -> np.ndarray:
    if not pa.types.is_list(values.type):
        return np.ones(len(values), np.int64)
    return pc.list_value_length(values).to_numpy(zero_copy_only=False).astype(np.int64)


def _block(row: np.ndarray, column: np.ndarray, weight: np.ndarray, rows: int, columns_: int) -> sp.csr_matrix:
    return sp.csr_matrix((weight, (row, column)), shape=(rows, columns_))


def table_lines(data: ReportData, results: Sequence[DayResult]) -> list[str]:
    """Mean test AUC over the days: the regression, then each model's arms and its difference to the regression."""
    head = ["scenario", "logistic regression"]
    for model in data.models:
        head += [f"{model}: no sharing", "selected", "selected - regression"]
    lines = [head]
    for k, name in data.scenarios_and_totals:
        base = _mean([r.aucs[k] for r in results])
        row = [name, number(base)]
        for model in data.models:
            none, chosen = (
                _mean([data.auc(model, str(r.ds), arm, k) for r in results]) for arm in (NO_SHARING, SELECTED)
            )
            row += [number(none), number(chosen), signed(difference(chosen, base))]
        lines.append(row)
    return aligned_table(lines)


def _mean(values: Sequence[float | None]) -> float | None:
    known = [v for v in values if v is not None]
    return float(np.mean(known)) if known else None


class BenchOptions(StepOptions):
    """Options of this benchmark."""

    quick: bool = Field(default=False, description="the last day and one penalty only")
    no_history: bool = Field(default=False, description="do not use behaviours")
    json_file: Path | None = Field(
        default=None, validation_alias="json", title="FILE", description="write the results to FILE"
    )


def step(args: StepArgs[BenchOptions]) -> None:
    penalties = QUICK_PENALTIES if args.options.quick else PENALTIES
    days = args.days[-1:] if args.options.quick else args.days
    data = collect(args.dataset, days)
    results = [measure_day(args.dataset, ds, penalties, history=not args.options.no_history) for ds in days]
    seconds = sum(r.seconds for r in results)
    print(f"test AUC, mean over {len(results)} days ({args.dataset.name}, {days[0]} .. {days[-1]}; {seconds:.0f} s)")
    print("\n".join(table_lines(data, results)))
    print("  C chosen: " + ", ".join(f"{r.ds}: {r.penalty:g}" for r in results))
    if not data.models:
        print("  no evaluations of these days: run train_target_model and evaluate to compare with the models")
    if args.options.json_file:
        record = {
            "dataset": args.dataset.name, "machine": platform.platform(), "sklearn": sklearn.__version__,
            "days": [{"ds": str(r.ds), "C": r.penalty, "seconds": r.seconds, "auc": r.aucs} for r in results],
        }  # fmt: skip
        args.options.json_file.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    run_step(__doc__, step, BenchOptions)
