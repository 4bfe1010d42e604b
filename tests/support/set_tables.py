"""Rows of the small tables around shared sets, written straight into a tiny lake."""

from __future__ import annotations

from datetime import UTC, date, datetime

from lake.arrow_writer import overwrite_partition
from lake.rows import write_rows
from schemas.dataset_spec import DatasetSpec
from schemas.tables import get_table
from schemas.tables.shared_instance_drift import Drift
from schemas.tables.shared_instance_pins import Pin


def write_pin(dataset: DatasetSpec, from_ds: date, shared_set_id: str | None) -> None:
    """A pin from a day on; None: the newest again."""
    recorded_at = datetime(2026, 1, 1, tzinfo=UTC)
    write_rows(dataset, [Pin(from_ds=str(from_ds), shared_set_id=shared_set_id, recorded_at=recorded_at)])


def clear_partition(dataset: DatasetSpec, table: str, where: dict[str, str]) -> None:
    """Take away the rows of one partition."""
    overwrite_partition(get_table(table).arrow_schema().empty_table(), dataset, table, where)


def write_drift(dataset: DatasetSpec, shared_set_id: str, day: date, *, is_drifted: bool) -> None:
    """The comparison of a day; where it drifted, only its first scenario did, not the whole."""
    drifted = {0} if is_drifted else set()
    rows = [
        Drift(
            ds=str(day),
            shared_set_id=shared_set_id,
            scenario_id=scenario,
            rows=100_000,
            window_rows=100_000,
            share_rate=0.5,
            window_share_rate=0.5,
            psi=9.0 if scenario in drifted else 0.0,
            is_drifted=scenario in drifted,
        )
        for scenario in range(-1, dataset.num_scenarios)
    ]
    write_rows(dataset, rows)
