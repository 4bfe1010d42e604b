"""Which of a day's runs is selected, and whether these runs were made already."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from datetime import date

from msr_models.training.manifest import RunManifest
from msr_models.training.recorded_runs import recorded_runs
from schemas.dataset_spec import DatasetSpec
from schemas.errors import TrainingError


def select(manifests: Sequence[RunManifest]) -> RunManifest:
    """The best on validation by the runs' `select_on`; ties go to the smaller ratio.

    logloss: of all rows after calibration, which is what is served. auc: mean over scenarios, or the logloss where one
    of the runs has none.
    """
    by_auc = all(m.trainer["select_on"] == "auc" and m.metrics["validation_auc"] is not None for m in manifests)

    def score(manifest: RunManifest) -> tuple[float, float]:
        auc, loss = manifest.metrics["validation_auc"], manifest.metrics["validation_calibrated_logloss"]
        value = auc if by_auc else -(loss if loss is not None else sys.float_info.max)
        assert value is not None
        return value, -manifest.ratio

    return max(manifests, key=score)


def selected_id(manifests: Sequence[RunManifest], fixed: float | None) -> str:
    """run_id of the run that validation selects among those of the ratio `fixed` (None: among all)."""
    return select([m for m in manifests if fixed is None or m.ratio == fixed]).run_id


def runs_exist(dataset: DatasetSpec, planned: Sequence[RunManifest], fixed: float | None) -> bool:
    """Whether (ds, model) holds exactly these runs, made by this code on this device, with their files in place.

    False also where a recorded manifest cannot be read: training the day replaces it.
    """
    here = planned[0]
    try:
        runs = recorded_runs(dataset, date.fromisoformat(here.ds), here.model)
    except TrainingError:
        return False
    made = [run.manifest for run in runs]
    return (
        {m.run_id for m in made} == {p.run_id for p in planned}
        and all(_made_by(m) == _made_by(here) for m in made)
        and [run.row.run_id for run in runs if run.row.is_selected] == [selected_id(made, fixed)]
        and all(run.has_files() for run in runs)
    )


def _made_by(manifest: RunManifest) -> tuple[object, ...]:
    return manifest.code_version, manifest.package_versions, manifest.device
