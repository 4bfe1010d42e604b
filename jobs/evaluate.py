"""Compute per-scenario metrics of every run of ds from its stored predictions; writes evaluations, prints a table.

AUC with its 95 % DeLong interval, logloss, calibration (predicted / observed), S-GAUC, rows and positives, per scenario
and over all, for validation and test. A scenario with one class has no AUC; the table says how many there are.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import asdict
from datetime import date

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pydantic import Field

from jobs.cli import StepArgs, StepOptions, run_step
from lake.locations import artifact_path
from lake.reader import read_table
from lake.rows import read_rows, write_rows
from msr_models.evaluation.metrics import scenario_metrics, session_ids
from msr_models.training.predictions import read_predictions
from schemas.commands import command
from schemas.dataset_spec import DatasetSpec
from schemas.errors import TrainingError
from schemas.tables.evaluations import Evaluation
from schemas.tables.training_runs import TrainingRun
from schemas.text import aligned_table

log = logging.getLogger(__name__)

GROUP = "daily"
SPLITS = ("validation", "test")


class EvaluateOptions(StepOptions):
    """Options of this step."""

    model: str | None = Field(default=None, description="evaluate this model only")


def step(args: StepArgs[EvaluateOptions]) -> None:
    """Evaluate every day."""
    for ds in args.days:
        evaluate_day(args.dataset, ds, args.options.model)


def evaluate_day(dataset: DatasetSpec, ds: date, model: str | None = None) -> None:
    """Write the evaluations of all runs of a day, one transaction per model.

    Raises TrainingError where `model` is given and has no runs.
    """
    filters = None if model is None else {"model": model}
    runs = sorted(read_rows(dataset, TrainingRun, days=[ds], filters=filters), key=lambda run: (run.model, run.ratio))
    if not runs:
        if model is not None:
            train = command("train_target_model", dataset, f"--ds {ds} --model {model}")
            raise TrainingError(f"{dataset.name} has no runs of model {model!r} on {ds}; run: {train}")
        log.info(f"{ds}: no runs to evaluate (too few days before it, or train_target_model has not run)")
    for name in dict.fromkeys(run.model for run in runs):
        own = [run for run in runs if run.model == name]
        rows = [row for run in own for row in evaluate_run(dataset, run)]
        write_rows(dataset, rows)
        log.info(f"{ds} {name}: {len(own)} runs, {len(rows)} rows of evaluations")
        print("\n".join(summary(rows)), flush=True)


def evaluate_run(dataset: DatasetSpec, run: TrainingRun) -> list[Evaluation]:
    """Rows of `evaluations` of one run: per split, each scenario and all (scenario_id -1)."""
    again = command("train_target_model", dataset, f"--ds {run.ds}", f"--model {run.model}", "--retrain")
    predictions = read_predictions(artifact_path(dataset, run.predictions_uri), remedy=f"train the run again: {again}")
    rows = []
    for split in SPLITS:
        part = predictions.filter(pc.equal(predictions["split"], split))
        day_N = pc.dictionary_encode(part["ds"]).combine_chunks().indices.to_numpy(zero_copy_only=False)
        metrics = scenario_metrics(
            part["prob"].to_numpy(),
            part["label"].to_numpy(),
            part["scenario_id"].to_numpy(),
            session_ids(day_N, sessions_of(dataset, part)),
            dataset.num_scenarios,
        )
        rows += [
            Evaluation(
                ds=run.ds,
                model=run.model,
                run_id=run.run_id,
                arm=run.arm,
                ratio=run.ratio,
                is_selected=run.is_selected,
                split=split,
                scenario="all" if m.scenario_id < 0 else dataset.scenario.names[m.scenario_id],
                **asdict(m),
            )
            for m in metrics
        ]
    return rows


def sessions_of(dataset: DatasetSpec, part: pa.Table) -> NDArray[np.int64]:
    """int64 that is equal in rows of one session of a day: of the log's session where it has one, else of the user."""
    users_N = part["user_key"].to_numpy()
    if dataset.columns.session is None:
        return np.asarray(users_N)
    days = [date.fromisoformat(day) for day in pc.unique(part["ds"]).to_pylist()]
    columns = ["ds", "instance_id", "session_id"]
    rows = part.select(columns[:2]).append_column("row", pa.array(np.arange(part.num_rows)))
    found = rows.join(read_table(dataset, "impressions", columns=columns, days=days), columns[:2]).sort_by("row")
    session = pc.dictionary_encode(found["session_id"]).combine_chunks().indices
    # Users' sessions begin behind those of the log
    known = pc.fill_null(pc.cast(session, pa.int64()), -1).to_numpy(zero_copy_only=False)
    _, user_N = np.unique(users_N, return_inverse=True)
    return np.asarray(np.where(known >= 0, known, user_N + known.max(initial=-1) + 1))


def summary(rows: Sequence[Evaluation]) -> list[str]:
    """Lines of a table: test AUC per scenario of training without sharing and of the selected run."""
    test = [row for row in rows if row.split == "test"]
    plain = {row.scenario_id: row for row in test if row.arm == "mt_backbone"}
    chosen = {row.scenario_id: row for row in test if row.is_selected}
    if not chosen:
        return []
    first = next(iter(chosen.values()))
    picked = f"AUC {first.arm} r={first.ratio:g} (selected)"
    cells = [["scenario", "rows", "positives", "AUC mt_backbone", picked, "gain"]]
    for scenario_id in sorted(chosen, key=lambda s: (s < 0, s)):
        own, base = chosen[scenario_id], plain.get(scenario_id)
        gain = "" if base is None or base.auc is None or own.auc is None else f"{own.auc - base.auc:+.4f}"
        cells.append([own.scenario, f"{own.rows:,}", f"{own.positives:,}", _auc(base), _auc(own), gain])
    overall = chosen.get(-1)
    if overall is not None:
        base_mean = plain[-1].mean_scenario_auc if -1 in plain else None
        cells.append(["mean of scenarios", "", "", _number(base_mean), _number(overall.mean_scenario_auc), ""])
    lines = [f"{first.ds} {first.model}, test", *(f"  {line}" for line in aligned_table(cells))]
    if overall is not None and overall.single_class_scenarios:
        lines.append(f"{overall.single_class_scenarios} scenario(s) with one class only: no AUC")
    return lines


def _auc(row: Evaluation | None) -> str:
    if row is None or row.auc is None:
        return "none"
    return _number(row.auc) + ("" if row.auc_low is None else f" [{row.auc_low:.4f}, {row.auc_high:.4f}]")


def _number(value: float | None) -> str:
    return "none" if value is None else f"{value:.4f}"


if __name__ == "__main__":
    run_step(__doc__, step, EvaluateOptions)
