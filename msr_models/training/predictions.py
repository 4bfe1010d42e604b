"""Predictions of a run as one Parquet file: the rows that its metrics are computed from.

prob is the calibrated probability, the one to serve; prob_raw the model's own. weight is null without weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from lake.files import write_bytes
from msr_models.evaluation.blocks import Floats
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
        ("weight", pa.float64()),
    ]
)


def prediction_rows(window: Window, rows: Tensor, probs: Floats, split: str, calibration: Calibration) -> pa.Table:
    """Predictions of some rows of a window, calibrated; split is validation or test."""
    scenario_N = window.scenario_N[rows].cpu().numpy()
    days, weight_N = pa.array([str(d) for d in window.days]), window.weights_of(rows)
    columns = [
        days.take(pa.array(window.day_N[rows].cpu().numpy())),
        window.instance_id_N[rows].cpu().numpy(),
        scenario_N.astype("int32"),
        window.user_key_N[rows].cpu().numpy(),
        pa.repeat(split, len(rows)),
        window.label_N[rows].cpu().numpy().astype("int32"),
        calibration.apply(probs, scenario_N),
        probs,
        pa.nulls(len(rows), pa.float64()) if weight_N is None else weight_N,
    ]
    return pa.table([pa.array(c) if not isinstance(c, pa.Array) else c for c in columns], schema=SCHEMA)


def weights_of(rows: pa.Table) -> Floats | None:
    """Weights of predictions; None where they have none."""
    column = rows["weight"]
    return None if column.null_count else np.asarray(column.to_numpy(), dtype=np.float64)


def write_predictions(path: Path, parts: list[pa.Table]) -> None:
    """Write atomically; the same rows give the same bytes."""
    sink = pa.BufferOutputStream()
    pq.write_table(pa.concat_tables(parts), sink, compression="zstd")
    write_bytes(path, sink.getvalue().to_pybytes())


def read_predictions(
    path: Path, *, columns: Sequence[str] = SCHEMA.names, remedy: str = "train the run again"
) -> pa.Table:
    """Columns of SCHEMA (prob and prob_raw go together); a file from before calibration has prob in place of prob_raw.
    One from before weights has none.

    Raises TrainingError, which ends with `remedy`, where the file is missing or damaged.
    """
    try:
        rows = pq.read_table(path, schema=SCHEMA, columns=list(columns))
    except (OSError, pa.ArrowInvalid) as error:
        raise TrainingError(f"predictions {path} cannot be read ({error}); {remedy}") from error
    if "prob_raw" not in columns:
        return rows
    place = rows.schema.get_field_index("prob_raw")
    return rows.set_column(place, SCHEMA.field("prob_raw"), pc.coalesce(rows["prob_raw"], rows["prob"]))
