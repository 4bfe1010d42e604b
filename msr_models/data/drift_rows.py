"""Days compared with a set's window, as shared_instance_drift has them, judged by the limits of now. Needs no torch."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from typing import Any

from msr_models.data import lake_reader
from msr_models.evaluation.drift import is_past_limits
from schemas.dataset_spec import DatasetSpec

TABLE = "shared_instance_drift"
_COLUMNS = ["shared_set_id", "ds", "scenario_id", "rows", "share_rate", "window_share_rate", "psi", "is_drifted"]


def read_drift_rows(
    dataset: DatasetSpec, days: Sequence[date] | None = None, shared_set_id: str | None = None
) -> list[dict[str, Any]]:
    """Rows of these days (None: all) and this set (None: all), `is_drifted` by search.drift_* of the YAML now.

    So a limit that is raised takes false alarms back. A row that lacks the window's size keeps its flag.
    """
    if not lake_reader.table_exists(dataset.name, TABLE):
        return []
    source = lake_reader.open_dataset(dataset.name, TABLE, _COLUMNS)
    columns = [*_COLUMNS, *({"window_rows"} & set(source.schema.names))]
    filters = {"shared_set_id": shared_set_id} if shared_set_id else None
    rows = source.to_table(columns=columns, filter=lake_reader.condition(days, filters)).to_pylist()
    return [row | {"is_drifted": _is_drifted(dataset, row)} for row in rows]


def _is_drifted(dataset: DatasetSpec, row: dict[str, Any]) -> bool:
    if row["psi"] is None or row.get("window_rows") is None:
        return bool(row["is_drifted"])
    return is_past_limits(
        psi=row["psi"],
        rows=(row["window_rows"], row["rows"]),
        share_rates=(row["window_share_rate"], row["share_rate"]),
        psi_limit=dataset.search.drift_psi_limit,
        share_limit=dataset.search.drift_share_limit,
    )
