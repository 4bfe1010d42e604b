"""The report's page: templates/report.html.j2 rendered with collected data. One file that loads nothing else."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from jobs.plotting import svg
from jobs.reporting import (
    auc_figures,
    calibration_figures,
    collect,
    drift_figures,
    formats,
    row_count_figures,
    set_figures,
)
from jobs.reporting.collect import ReportData
from lake.locations import artifact_path
from msr_models.evaluation.calibration import MIN_CLASS_ROWS
from msr_models.evaluation.gains import ALL_ROWS, MEAN
from msr_models.sets.drift import part_name
from schemas.models import FLOOR
from schemas.tables.training_runs import TrainingRun


def render(data: ReportData) -> str:
    """The whole page as one HTML text. The same data give the same bytes: no clock."""
    return _environment().get_template("report.html.j2").render(data=data)


def render_index(names: Sequence[str]) -> str:
    """A small page that links to each data set's report."""
    return _environment().get_template("index.html.j2").render(names=names)


def repeat_command(data: ReportData, run: TrainingRun) -> str:
    """The command that trains a run again from its manifest."""
    manifest = artifact_path(data.dataset, run.checkpoint_uri).with_name("manifest.json")
    command = [
        "python",
        "-m",
        "jobs.train_target_model",
        "--dataset",
        data.dataset_argument,
        "--manifest",
        str(manifest),
    ]
    return shlex.join(command)


def code_version(run: TrainingRun) -> str:
    """The first digits of the commit that trained a run; + marks uncommitted changes."""
    version = str(json.loads(run.manifest).get("code_version", "unknown"))
    return version[:10] + ("+" if version[10:].endswith("+") else "")


def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).with_name("templates")),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "code_version": code_version,
        "count": formats.count,
        "number": formats.number,
        "percent": formats.percent,
        "signed": formats.signed,
    }
    figures = (
        auc_figures.auc_by_scenario,
        auc_figures.auc_by_day,
        auc_figures.validation_by_ratio,
        calibration_figures.calibration,
        calibration_figures.reliability,
        set_figures.share_rates,
        set_figures.score_distribution,
        drift_figures.drift_by_day,
        row_count_figures.rows_published,
        row_count_figures.rows_quarantined,
    )
    functions = (collect.counts, drift_figures.flag_lines, formats.difference, part_name, repeat_command)
    environment.globals |= {function.__name__: function for function in (*figures, *functions)}
    environment.globals |= {
        "style": svg.STYLE,
        "MISSING": formats.MISSING,
        "ARM_NAMES": collect.ARM_NAMES,
        "ALL_ROWS": ALL_ROWS,
        "MEAN": MEAN,
        "FLOOR": FLOOR,
        "MIN_CLASS_ROWS": MIN_CLASS_ROWS,
        "SELECTED": collect.SELECTED,
        "NO_SHARING": collect.NO_SHARING,
        "SHARE_ALL": collect.SHARE_ALL,
    }
    return environment
