"""Predictions of a run as one Parquet file: the rows that its metrics are computed from.

prob is the calibrated probability, the one to serve; prob_raw the model's own. A label beside the main one has columns
of its own: label_<name>, prob_<name> and prob_raw_<name>.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from lake.files import write_bytes
from msr_models.evaluation.blocks import Floats
from schemas.blocks import label_column
from schemas.errors import TrainingError

if TYPE_CHECKING:  # readers of predictions need no torch
    from torch import Tensor

    from msr_models.data.window import Window
    from msr_models.evaluation.calibration import Calibration

SCHEMA = pa.schema(
    [
        ("ds", pa.string()),
        ("instance_id", pa.int64()),
        ("scenario_id", pa.int32()),
        ("user_key", pa.int64()),
        ("split", pa.string()),
        ("label", pa.int32()),
        ("prob", pa.float64()),
        ("prob_raw", pa.float64()),
    ]
)


def further_schema(name: str) -> pa.Schema:
    """Columns of a label beside the main one: label, calibrated and raw probability."""
    return pa.schema(
        [(label_column(name), pa.int32()), (f"prob_{name}", pa.float64()), (f"prob_raw_{name}", pa.float64())]
    )


def prediction_rows(
    window: Window,
    rows: Tensor,
    probs_NT: Floats,
    split: str,
    calibration: Calibration,
    further: Mapping[str, Calibration],
) -> pa.Table:
    """Predictions of some rows of a window, calibrated; split is validation or test.

    probs_NT: of the main label, then of those that `further` has the calibrations of, in its order.
    """
    scenario_N = window.scenario_N[rows].cpu().numpy()
    days = pa.array([str(d) for d in window.days])
    columns = [
        days.take(pa.array(window.day_N[rows].cpu().numpy())),
        window.instance_id_N[rows].cpu().numpy(),
        scenario_N.astype("int32"),
        window.user_key_N[rows].cpu().numpy(),
        pa.repeat(split, len(rows)),
        window.label_N[rows].cpu().numpy().astype("int32"),
        calibration.apply(probs_NT[:, 0], scenario_N),
        probs_NT[:, 0],
    ]
    schema = SCHEMA
    for j, (name, own) in enumerate(further.items()):
        schema = pa.schema([*schema, *further_schema(name)])
        probs = probs_NT[:, 1 + j]
        columns += [window.labels(j)[rows].cpu().numpy().astype("int32"), own.apply(probs, scenario_N), probs]
    return pa.table([pa.array(c) if not isinstance(c, pa.Array) else c for c in columns], schema=schema)


def write_predictions(path: Path, parts: list[pa.Table]) -> None:
    """Write atomically; the same rows give the same bytes."""
    sink = pa.BufferOutputStream()
    pq.write_table(pa.concat_tables(parts), sink, compression="zstd")
    write_bytes(path, sink.getvalue().to_pybytes())


def read_predictions(
    path: Path, *, columns: Sequence[str] | None = None, remedy: str = "train the run again"
) -> pa.Table:
    """Some columns (prob and prob_raw go together), or all: those of SCHEMA, then those of further labels.

    A file from before calibration has prob in place of prob_raw. Raises TrainingError, which ends with `remedy`, where
    the file is missing or damaged.
    """
    try:
        of_further = [column for column in pq.read_schema(path) if column.name not in SCHEMA.names]
        schema = pa.schema([*SCHEMA, *of_further])
        rows = pq.read_table(path, schema=schema, columns=schema.names if columns is None else list(columns))
    except (OSError, pa.ArrowInvalid) as error:
        raise TrainingError(f"predictions {path} cannot be read ({error}); {remedy}") from error
    if "prob_raw" not in rows.column_names:
        return rows
    place = rows.schema.get_field_index("prob_raw")
    return rows.set_column(place, SCHEMA.field("prob_raw"), pc.coalesce(rows["prob_raw"], rows["prob"]))
