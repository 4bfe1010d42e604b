"""Per-scenario metrics of every run of ds, from its stored predictions: writes evaluations and prints a table.

AUC with its 95 % DeLong interval, logloss, calibration (predicted / observed), S-GAUC, rows and positives, per scenario
and over all, for validation and test. A scenario with one class has no AUC and is counted.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import asdict
from datetime import date
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from jobs.cli import StepArgs, progress, run_step
from lake import reader as lake_reader
from lake.arrow_writer import overwrite_partition
from lake.locations import artifact_path
from msr_models.evaluation.metrics import scenario_metrics, session_ids
from msr_models.training.predictions import read_predictions
from schemas.dataset_spec import DatasetSpec
from schemas.errors import TrainingError
from schemas.tables import get_table

SPLITS = ("validation", "test")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of this step."""
    parser.add_argument("--model", help="evaluate this model only")


def step(args: StepArgs) -> None:
    """Evaluate every day asked for."""
    for ds in args.days:
        evaluate_day(args.dataset, ds, args.options.model)


def evaluate_day(dataset: DatasetSpec, ds: date, model: str | None = None) -> None:
    """Write the evaluations of all runs of a day, one transaction per model."""
    runs = _runs(dataset, ds, model)
    if not runs:
        if model is not None:
            raise TrainingError(
                f"{dataset.name} has no runs of model {model!r} on {ds}; run: python -m jobs.train_target_model "
                f"--dataset {dataset.name} --ds {ds} --model {model}"
            )
        return progress(f"{ds}: no runs to evaluate (too few days before it, or jobs.train_target_model has not run)")
    for name in sorted({r["model"] for r in runs}):
        mine = [r for r in runs if r["model"] == name]
        rows = [row for run in mine for row in evaluate_run(dataset, run)]
        overwrite_partition(
            pa.Table.from_pylist(rows, schema=_schema(dataset)), dataset, "evaluations", {"ds": str(ds), "model": name}
        )
        progress(f"{ds} {name}: {len(mine)} runs, {len(rows)} rows of evaluations")
        print("\n".join(summary(rows)), flush=True)


def evaluate_run(dataset: DatasetSpec, run: dict[str, Any]) -> list[dict[str, Any]]:
    """Rows of `evaluations` of one run: per split, each scenario and all (scenario_id -1)."""
    predictions = read_predictions(artifact_path(dataset, run["predictions_uri"]))
    shared = {key: run[key] for key in ("ds", "model", "run_id", "arm", "ratio", "is_selected")}
    rows: list[dict[str, Any]] = []
    for split in SPLITS:
        part = predictions.filter(pc.equal(predictions["split"], split))
        day_N = pc.dictionary_encode(part["ds"]).combine_chunks().indices.to_numpy(zero_copy_only=False)
        metrics = scenario_metrics(
            part["prob"].to_numpy(),
            part["label"].to_numpy(),
            part["scenario_id"].to_numpy(),
            session_ids(day_N, part["user_key"].to_numpy()),
            dataset.num_scenarios,
        )
        for m in metrics:
            name = "all" if m.scenario_id < 0 else dataset.scenario.names[m.scenario_id]
            rows.append({**shared, "split": split, "scenario": name, **asdict(m)})
    return rows


def summary(rows: Sequence[dict[str, Any]]) -> list[str]:
    """Lines of a table: test AUC per scenario of training without sharing and of the selected run."""
    test = [r for r in rows if r["split"] == "test"]
    plain = {r["scenario_id"]: r for r in test if r["arm"] == "mt_backbone"}
    chosen = {r["scenario_id"]: r for r in test if r["is_selected"]}
    if not chosen:
        return []
    first = next(iter(chosen.values()))
    picked = f"{first['arm']} r={first['ratio']:g}"
    widths = (16, 9, 9, 26, 26, 9)
    head = ("scenario", "rows", "positives", "AUC mt_backbone", f"AUC {picked} (selected)", "gain")
    lines = [f"{first['ds']} {first['model']}, test", _line(head, widths)]
    for scenario_id in sorted(chosen, key=lambda s: (s < 0, s)):
        mine, base = chosen[scenario_id], plain.get(scenario_id)
        gain = "" if base is None or None in (mine["auc"], base["auc"]) else f"{mine['auc'] - base['auc']:+.4f}"
        cells = (mine["scenario"], f"{mine['rows']:,}", f"{mine['positives']:,}", _auc(base), _auc(mine), gain)
        lines.append(_line(cells, widths))
    overall = chosen.get(-1)
    if overall is not None:
        base_mean = plain[-1]["mean_scenario_auc"] if -1 in plain else None
        cells = ("mean of scenarios", "", "", _number(base_mean), _number(overall["mean_scenario_auc"]), "")
        lines.append(_line(cells, widths))
        if overall["single_class_scenarios"]:
            lines.append(f"{overall['single_class_scenarios']} scenario(s) with one class only: no AUC")
    return lines


def _runs(dataset: DatasetSpec, ds: date, model: str | None) -> list[dict[str, Any]]:
    if not lake_reader.table_exists(dataset, "training_runs"):
        return []
    columns = ["ds", "model", "run_id", "arm", "ratio", "is_selected", "predictions_uri"]
    filters = None if model is None else {"model": model}
    rows = lake_reader.read_table(dataset, "training_runs", columns=columns, days=[ds], filters=filters)
    return sorted(rows.to_pylist(), key=lambda r: (r["model"], r["ratio"]))


def _schema(dataset: DatasetSpec) -> pa.Schema:
    return get_table("evaluations").for_dataset(dataset).arrow_schema()


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    return "  " + " ".join(
        f"{c:<{w}}" if i == 0 else f"{c:>{w}}" for i, (c, w) in enumerate(zip(cells, widths, strict=True))
    )


def _auc(row: dict[str, Any] | None) -> str:
    if row is None or row["auc"] is None:
        return "none"
    if row["auc_low"] is None:
        return f"{row['auc']:.4f}"
    return f"{row['auc']:.4f} [{row['auc_low']:.4f}, {row['auc_high']:.4f}]"


def _number(value: float | None) -> str:
    return "none" if value is None else f"{value:.4f}"


if __name__ == "__main__":
    run_step(__doc__, step, add_arguments)
