"""One trained model (one arm and ratio) of one day, with the manifest that repeats it."""

import pyarrow as pa

from schemas.table_spec import Column, Constraint, TableSpec

TABLE = TableSpec(
    name="training_runs",
    doc=__doc__,
    columns=(
        Column(name="ds", type=pa.string(), doc="test day; the model was trained on days before it"),
        Column(name="model", type=pa.string(), doc="registered model name"),
        Column(name="run_id", type=pa.string(), doc="<model>-<ds>-<hash of the manifest's inputs>"),
        Column(name="arm", type=pa.string(), doc="mt_backbone (r = 0), mt_backbone_s (r = 1) or ssim"),
        Column(name="ratio", type=pa.float64(), doc="share of instances shared, r of eq. 16"),
        Column(name="is_selected", type=pa.bool_(), doc="the ratio that validation chose"),
        Column(name="shared_set_id", type=pa.string(), nullable=True, doc="set, null where no set was read"),
        Column(name="seed", type=pa.int64(), doc="seed"),
        Column(name="validation_auc", type=pa.float64(), nullable=True, doc="mean AUC over scenarios on validation"),
        Column(name="validation_logloss", type=pa.float64(), doc="logloss on validation"),
        Column(name="epochs", type=pa.int32(), doc="epochs of the kept weights"),
        Column(
            name="train_rows",
            type=pa.int64(),
            doc="rows trained on: of new days only after a warm start",
        ),
        Column(name="manifest", type=pa.string(), doc="JSON: all that is needed to repeat the run", volatile=True),
        Column(name="checkpoint_uri", type=pa.string(), doc="weights below the artifacts", volatile=True),
        Column(name="checkpoint_sha256", type=pa.string(), doc="checksum of the weights file"),
        Column(name="predictions_uri", type=pa.string(), doc="Parquet: validation and test rows", volatile=True),
        Column(name="train_seconds", type=pa.float64(), doc="wall time", volatile=True),
        Column(name="created_at", type=pa.timestamp("us", tz="UTC"), doc="clock", volatile=True),
    ),
    keys=("run_id",),
    partition_by=("ds", "model"),
    constraints=(
        Constraint(name="arm_is_known", sql="arm IN ('mt_backbone', 'mt_backbone_s', 'ssim')"),
        Constraint(name="ratio_is_rate", sql="ratio >= 0 AND ratio <= 1"),
    ),
)
