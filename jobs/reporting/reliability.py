"""What a report shows of a run's calibration: its curves, and reliability of the test predictions before and after."""

from __future__ import annotations

import logging
from dataclasses import dataclass

import numpy as np
import pyarrow.compute as pc

from lake.locations import artifact_path
from msr_models.evaluation.calibration import Calibration, read_calibration
from msr_models.evaluation.reliability import bin_means
from msr_models.training.predictions import read_predictions, weights_of
from msr_models.training.recorded_runs import CALIBRATION_FILE
from schemas.dataset_spec import DatasetSpec
from schemas.errors import TrainingError
from schemas.tables.training_runs import TrainingRun

log = logging.getLogger(__name__)

BEFORE, AFTER = "before calibration", "after calibration"
STAGES = {BEFORE: "prob_raw", AFTER: "prob"}


@dataclass(frozen=True, kw_only=True)
class Reliability:
    """One run's test predictions in one scenario; bins: (mean prediction, observed rate, rows or weight),
    ascending.
    """

    model: str
    stage: str
    scenario_id: int
    bins: list[tuple[float, float, float]]


def read_reliability(dataset: DatasetSpec, run: TrainingRun) -> list[Reliability]:
    """A run's reliability per scenario before and after calibration; none where its predictions file is gone."""
    path = artifact_path(dataset, run.predictions_uri)
    if not path.is_file():
        return []
    rows = read_predictions(path, columns=["split", "scenario_id", "label", "weight", *STAGES.values()])
    rows = rows.filter(pc.equal(rows["split"], "test"))
    label, scenario = (rows[name].to_numpy() for name in ("label", "scenario_id"))
    weight = weights_of(rows)
    return [
        Reliability(
            model=run.model,
            stage=stage,
            scenario_id=int(k),
            bins=bin_means(
                rows[column].to_numpy()[scenario == k],
                label[scenario == k],
                weight=None if weight is None else weight[scenario == k],
            ),
        )
        for stage, column in STAGES.items()
        for k in np.unique(scenario)
    ]


def read_curves(dataset: DatasetSpec, run: TrainingRun) -> Calibration | None:
    """A run's calibration; None where its file is gone or cannot be read, which is logged."""
    path = artifact_path(dataset, run.checkpoint_uri).with_name(CALIBRATION_FILE)
    if not path.is_file():
        return None
    try:
        return read_calibration(path)
    except TrainingError as error:
        log.warning(str(error))
        return None
