"""Compute per-scenario metrics of every run of ds from its stored predictions; writes evaluations and gains.

AUC with its 95 % DeLong interval, logloss, S-GAUC, predicted / observed and ECE before and after calibration, per
scenario and over all, for validation and test. Calibration was fitted on validation, so that its metrics there are
optimistic. Gains in test AUC and logloss of each model's selected run over the floor (the logistic regression) and over
no sharing have paired 95 % intervals. All of these are of the main label; further_evaluations has the metrics of the
others. Prints tables; a scenario with one class has no AUC, and they say how many.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from datetime import date
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pydantic import Field

from jobs.cli import StepArgs, StepOptions, run_step
from jobs.reporting.evaluation_table import further_summary, summary
from lake.locations import artifact_path
from lake.reader import read_table
from lake.rows import read_rows, write_rows
from msr_models.evaluation.gains import ALL_ROWS, MEAN, PairedGain, paired_gains
from msr_models.evaluation.metrics import scenario_metrics, session_ids
from msr_models.evaluation.reliability import scenario_calibration_errors
from msr_models.training.predictions import further_schema, read_predictions
from schemas.commands import command
from schemas.dataset_spec import DatasetSpec
from schemas.errors import TrainingError
from schemas.models import FLOOR
from schemas.tables.evaluations import Evaluation
from schemas.tables.further_evaluations import FurtherEvaluation
from schemas.tables.gains import Gain
from schemas.tables.training_runs import TrainingRun

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
    """Write the evaluations of all runs of a day, and the gains of the selected ones, model by model.

    Raises TrainingError where `model` is given and has no runs.
    """
    every = sorted(read_rows(dataset, TrainingRun, days=[ds]), key=lambda run: (run.model, run.ratio))
    runs = [run for run in every if model in (None, run.model)]
    if not runs:
        if model is not None:
            train = command("train_target_model", dataset, f"--ds {ds} --model {model}")
            raise TrainingError(f"{dataset.name} has no runs of model {model!r} on {ds}; run: {train}")
        log.info(f"{ds}: no runs to evaluate (too few days before it, or train_target_model has not run)")
    floor = next((run for run in every if run.model == FLOOR and run.is_selected), None)
    for name in dict.fromkeys(run.model for run in runs):
        own = [run for run in runs if run.model == name]
        rows = [row for run in own for row in evaluate_run(dataset, run)]
        gains = gains_of(dataset, own, None if name == FLOOR else floor)
        further = [row for run in own for row in evaluate_further(dataset, run)]
        for written in (rows, further, gains):
            if written:
                write_rows(dataset, written)
        log.info(f"{ds} {name}: {len(own)} runs, {len(rows)} rows of evaluations, {len(gains)} gains")
        print("\n".join([*summary(rows, gains), *further_summary(further)]), flush=True)


def predictions_of(dataset: DatasetSpec, run: TrainingRun) -> pa.Table:
    """A run's predictions; the error of lost ones says how to train it again."""
    again = command("train_target_model", dataset, f"--ds {run.ds}", f"--model {run.model}", "--retrain")
    return read_predictions(artifact_path(dataset, run.predictions_uri), remedy=f"train the run again: {again}")


def evaluate_run(dataset: DatasetSpec, run: TrainingRun) -> list[Evaluation]:
    """Rows of `evaluations` of one run: per split, each scenario and all (scenario_id -1)."""
    rows = []
    for split, part, session_N in _splits(dataset, run):
        facts = _facts(run, split)
        measured = _measured(dataset, part, session_N, ("label", "prob", "prob_raw"))
        rows += [Evaluation(**facts, **metrics) for metrics in measured]
    return rows


def evaluate_further(dataset: DatasetSpec, run: TrainingRun) -> list[FurtherEvaluation]:
    """Rows of `further_evaluations` of one run, label by label; none where it predicted the main label alone."""
    rows = []
    for split, part, session_N in _splits(dataset, run):
        for label in dataset.columns.further_labels:
            names = further_schema(label).names
            if names[0] in part.column_names:
                facts = _facts(run, split) | {"label": label}
                measured = _measured(dataset, part, session_N, names)
                rows += [FurtherEvaluation(**facts, **metrics) for metrics in measured]
    return rows


def _splits(dataset: DatasetSpec, run: TrainingRun) -> Iterator[tuple[str, pa.Table, NDArray[np.int64]]]:
    """Each split's name, predictions and sessions."""
    predictions = predictions_of(dataset, run)
    for split in SPLITS:
        part = predictions.filter(pc.equal(predictions["split"], split))
        day_N = pc.dictionary_encode(part["ds"]).combine_chunks().indices.to_numpy(zero_copy_only=False)
        yield split, part, session_ids(day_N, sessions_of(dataset, part))


def _facts(run: TrainingRun, split: str) -> dict[str, Any]:
    names = ("ds", "model", "run_id", "arm", "ratio", "is_selected")
    return {name: getattr(run, name) for name in names} | {"split": split}


def _measured(
    dataset: DatasetSpec, part: pa.Table, session_N: NDArray[np.int64], columns: Sequence[str]
) -> list[dict[str, Any]]:
    """The metrics of each scenario and of all rows, by column of `evaluations`.

    columns: of the label, of its probability after and before calibration.
    """
    label_N, prob_N, raw_N = (part[name].to_numpy() for name in columns)
    scenario_N, num_scenarios = part["scenario_id"].to_numpy(), dataset.num_scenarios
    metrics = scenario_metrics(prob_N, label_N, scenario_N, session_N, num_scenarios)
    before = scenario_metrics(raw_N, label_N, scenario_N, session_N, num_scenarios)
    errors, errors_before = (
        scenario_calibration_errors(p, label_N, scenario_N, num_scenarios) for p in (prob_N, raw_N)
    )
    return [
        asdict(m)
        | {
            "scenario": "all" if m.scenario_id < 0 else dataset.scenario.names[m.scenario_id],
            "ece": ece,
            "ece_raw": ece_raw,
            "logloss_raw": raw.logloss,
            "calibration_raw": raw.calibration,
        }
        for m, raw, ece, ece_raw in zip(metrics, before, errors, errors_before, strict=True)
    ]


def gains_of(dataset: DatasetSpec, runs: Sequence[TrainingRun], floor: TrainingRun | None) -> list[Gain]:
    """Rows of `gains` of one model's runs: of the selected one over the floor and over r = 0."""
    selected = next((run for run in runs if run.is_selected), None)
    unshared = next((run for run in runs if run.ratio == 0), None)
    if selected is None:
        return []
    found, own = [], _test_rows(dataset, selected)
    for baseline, other in (("mt_backbone", unshared), ("floor", floor)):
        if other is None:
            continue
        theirs = own if other is selected else _test_rows(dataset, other)
        if not all(own[name].equals(theirs[name]) for name in ("instance_id", "label")):
            log.warning(
                f"{selected.run_id} and {other.run_id} were tested on different rows: no gain; train both again"
            )
            continue
        gains = paired_gains(
            own["prob"].to_numpy(),
            theirs["prob"].to_numpy(),
            own["label"].to_numpy(),
            own["scenario_id"].to_numpy(),
            own["user_key"].to_numpy(),
            dataset.num_scenarios,
        )
        found += [_gain(dataset, selected, baseline, other.run_id, gain) for gain in gains]
    return found


def _test_rows(dataset: DatasetSpec, run: TrainingRun) -> pa.Table:
    rows = predictions_of(dataset, run)
    return rows.filter(pc.equal(rows["split"], "test")).sort_by("instance_id")


def _gain(dataset: DatasetSpec, run: TrainingRun, baseline: str, baseline_run_id: str, gain: PairedGain) -> Gain:
    contrast, k = gain.contrast, gain.scenario_id
    error, low, high, p_value = (
        float(value or 0.0) for value in (contrast.standard_error, contrast.low, contrast.high, contrast.p_value)
    )
    return Gain(
        ds=run.ds,
        model=run.model,
        run_id=run.run_id,
        ratio=run.ratio,
        baseline=baseline,
        baseline_run_id=baseline_run_id,
        metric=gain.metric,
        scenario_id=k,
        scenario={ALL_ROWS: "all", MEAN: "mean"}.get(k) or dataset.scenario.names[k],
        value=gain.value,
        baseline_value=gain.baseline,
        gain=contrast.estimate,
        standard_error=error,
        low=low,
        high=high,
        p_value=p_value,
    )


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


if __name__ == "__main__":
    run_step(__doc__, step, EvaluateOptions)
