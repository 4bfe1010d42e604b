"""What `evaluate` prints of a model's test day: AUC and logloss per scenario, gains with intervals, calibration."""

from __future__ import annotations

from collections.abc import Sequence

from jobs.reporting.formats import gain_text, number
from msr_models.evaluation.gains import ALL_ROWS, MEAN
from schemas.models import FLOOR
from schemas.tables.evaluations import Evaluation
from schemas.tables.further_evaluations import FurtherEvaluation
from schemas.tables.gains import Gain
from schemas.text import aligned_table


def summary(rows: Sequence[Evaluation], gains: Sequence[Gain]) -> list[str]:
    """Lines of tables for the selected run of one model: AUC, logloss and calibration on test."""
    chosen = {row.scenario_id: row for row in rows if row.split == "test" and row.is_selected}
    if not chosen:
        return []
    first, gain_of = next(iter(chosen.values())), {(g.baseline, g.metric, g.scenario_id): g for g in gains}
    picked = f"{first.arm} r={first.ratio:g} (selected)"
    lines = [f"{first.ds} {first.model}, test; gains are positive where {picked} is better, with 95 % intervals"]
    ids = sorted(chosen, key=lambda s: (s < 0, s))
    for metric, title in (("auc", "AUC"), ("logloss", "logloss")):
        cells = [["scenario", "rows", "positives", f"{title} {picked}"]]
        for k in (*ids, *([MEAN] if ALL_ROWS in chosen else [])):
            if k == MEAN:
                cells.append(["mean of scenarios", "", "", _mean(chosen[ALL_ROWS], metric, gain_of)])
            else:
                own = chosen[k]
                shown = _auc(own) if metric == "auc" else number(own.logloss)
                cells.append([own.scenario, f"{own.rows:,}", f"{own.positives:,}", shown])
        for baseline, name in (("mt_backbone", "mt_backbone"), ("floor", FLOOR)):
            _add_gains(cells, [gain_of.get((baseline, metric, k)) for k in (*ids, MEAN)], f"{title} {name}")
        lines += [f"  {line}" for line in aligned_table(cells)]
    cells = [["scenario", "predicted / observed before calibration", "after", "ECE before", "after"]]
    for k in ids:
        own = chosen[k]
        figures = (own.calibration_raw, own.calibration), (own.ece_raw, own.ece)
        cells.append([own.scenario, *(number(value) for pair in figures for value in pair)])
    lines += [f"  {line}" for line in aligned_table(cells)]
    overall = chosen.get(ALL_ROWS)
    if overall is not None and overall.single_class_scenarios:
        lines.append(f"{overall.single_class_scenarios} scenario(s) with one class only: no AUC")
    return lines


def further_summary(rows: Sequence[FurtherEvaluation]) -> list[str]:
    """Lines of a table for the selected run's further labels on test; none without any."""
    chosen = [row for row in rows if row.split == "test" and row.is_selected]
    if not chosen:
        return []
    cells = [["label", "scenario", "rows", "positives", "AUC", "logloss", "predicted / observed", "ECE"]]
    for row in chosen:
        figures = (number(value) for value in (row.logloss, row.calibration, row.ece))
        cells.append([row.label, row.scenario, f"{row.rows:,}", f"{row.positives:,}", _auc(row), *figures])
    return [f"  {line}" for line in aligned_table(cells)]


def _add_gains(cells: list[list[str]], gains: Sequence[Gain | None], title: str) -> None:
    """Two columns, unless the baseline is the run itself or is not there."""
    if all(gain is None or gain.baseline_run_id == gain.run_id for gain in gains):
        return
    cells[0] += [title, "gain"]
    for row, gain in zip(cells[1:], gains, strict=False):
        row += (
            ["none", ""] if gain is None else [number(gain.baseline_value), gain_text(gain.gain, gain.low, gain.high)]
        )


def _mean(overall: Evaluation, metric: str, gain_of: dict[tuple[str, str, int], Gain]) -> str:
    if metric == "auc":
        return number(overall.mean_scenario_auc)
    found = [g for (_, m, k), g in gain_of.items() if m == metric and k == MEAN]
    return number(found[0].value) if found else "none"


def _auc(row: Evaluation) -> str:
    return number(row.auc) + ("" if row.auc_low is None else f" [{row.auc_low:.4f}, {row.auc_high:.4f}]")
