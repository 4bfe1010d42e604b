"""One trained model (one arm and ratio) of one day, with the manifest that repeats it."""

import json
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, ClassVar

import pyarrow as pa

from schemas.table_spec import Constraint, Doc, Row, TableSpec, columns_of


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainingRun(Row):
    """A row of `training_runs`."""

    table: ClassVar[str] = "training_runs"

    ds: Annotated[str, Doc("test day; the model was trained on days before it")]
    model: Annotated[str, Doc("registered model name")]
    run_id: Annotated[str, Doc("<model>-<ds>-<hash of the manifest's inputs>")]
    arm: Annotated[str, Doc("mt_backbone (r = 0), mt_backbone_s (r = 1) or ssim")]
    ratio: Annotated[float, Doc("share of instances shared, r of eq. 16")]
    is_selected: Annotated[bool, Doc("the ratio that validation chose")]
    shared_set_id: Annotated[str | None, Doc("set, null where no set was read")]
    seed: Annotated[int, Doc("seed")]
    validation_auc: Annotated[float | None, Doc("mean AUC over scenarios on validation")]
    validation_logloss: Annotated[float, Doc("logloss on validation, before calibration")]
    epochs: Annotated[int, Doc("epochs of the kept weights", type=pa.int32())]
    train_rows: Annotated[int, Doc("rows trained on: of new days only after a warm start")]
    manifest: Annotated[str, Doc("JSON: all that is needed to repeat the run", volatile=True)]
    checkpoint_uri: Annotated[str, Doc("weights below the artifacts", volatile=True)]
    checkpoint_sha256: Annotated[str, Doc("checksum of the weights file")]
    predictions_uri: Annotated[str, Doc("Parquet: validation and test rows", volatile=True)]
    train_seconds: Annotated[float, Doc("wall time", volatile=True)]
    created_at: Annotated[datetime, Doc("clock", volatile=True)]
    validation_calibrated_logloss: Annotated[
        float | None, Doc("after it, on the rows that it was fitted on", added=True)
    ] = None
    select_on: Annotated[str | None, Doc("what chose epoch and r: logloss or auc; null: auc", added=True)] = None

    @property
    def code_version(self) -> str:
        """The version of the code that trained it, from its manifest."""
        return str(json.loads(self.manifest).get("code_version", "unknown"))


TABLE = TableSpec(
    name="training_runs",
    doc=__doc__,
    row=TrainingRun,
    columns=columns_of(TrainingRun),
    written_by="train_target_model",
    keys=("run_id",),
    partition_by=("ds", "model"),
    constraints=(
        Constraint(name="arm_is_known", sql="arm IN ('mt_backbone', 'mt_backbone_s', 'ssim')"),
        Constraint(name="ratio_is_rate", sql="ratio >= 0 AND ratio <= 1"),
    ),
)
