"""Change which sets training uses: pin, unpin, retire. Each returns lines that describe the change."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, date, datetime

from lake.rows import write_rows
from msr_models.sets.catalogue import Catalogue, read_catalogue
from msr_models.sets.usage import read_runs, runs_of, sets_of_days
from schemas.commands import command
from schemas.dataset_spec import DatasetSpec
from schemas.errors import SharedSetError
from schemas.tables.shared_instance_pins import Pin


def pin(dataset: DatasetSpec, shared_set_id: str, from_ds: date) -> list[str]:
    """Training of `from_ds` and later days uses the set, until another record starts.

    Raises SharedSetError where the set is unknown, not accepted, incompatible or not older than `from_ds`.
    """
    catalogue = read_catalogue(dataset)
    catalogue.get(shared_set_id, from_ds)
    _write(dataset, from_ds, shared_set_id)
    before = catalogue.pin_on(from_ds)
    instead = before.shared_set_id if before else "the newest set"
    until = _next_record(catalogue.pins, from_ds)
    return [
        f"days {_span(from_ds, until)} use {shared_set_id} instead of {instead}",
        *_reruns_that_change(dataset, from_ds, until),
    ]


def unpin(dataset: DatasetSpec, from_ds: date) -> list[str]:
    """Training of `from_ds` and later days uses the newest set again, until another record starts.

    Raises SharedSetError where no set is pinned on that day.
    """
    catalogue = read_catalogue(dataset)
    before = catalogue.pin_on(from_ds)
    if before is None:
        listed = ", ".join(f"{p.from_ds} {p.shared_set_id or '(ends)'}" for p in catalogue.pins) or "none"
        raise SharedSetError(
            f"no shared set of {dataset.name} is pinned on {from_ds} (pins: {listed}); give --from a day of a pin"
        )
    _write(dataset, from_ds, None)
    until = _next_record(catalogue.pins, from_ds)
    return [
        f"days {_span(from_ds, until)} use the newest set instead of {before.shared_set_id}",
        *_reruns_that_change(dataset, from_ds, until),
    ]


def retire(dataset: DatasetSpec, shared_set_id: str, reason: str) -> list[str]:
    """The set is never used again; its rows stay.

    Raises SharedSetError where it is unknown, rejected, pinned, or where a recorded run uses it.
    """
    catalogue = read_catalogue(dataset)
    found = catalogue.named(shared_set_id)
    if found.status == "retired":
        return [f"shared set {shared_set_id} is retired already ({found.status_reason}), nothing to do"]
    if found.status == "rejected":
        raise SharedSetError(
            f"shared set {shared_set_id} was rejected ({found.status_reason}) and is never used; leave it as it is"
        )
    _require_unused(dataset, catalogue, shared_set_id)
    write_rows(dataset, [replace(found, status="retired", status_reason=reason)])
    return [
        f"shared set {shared_set_id} is retired: days after {found.last_day} that would have used it use the newest "
        "accepted set before it; its masks stay"
    ]


def pin_spans(pins: Sequence[Pin], shared_set_id: str) -> list[str]:
    """`from D on` or `from D until E` (E excluded) for each time that the set is pinned."""
    pinned = [p.first_day for p in pins if p.shared_set_id == shared_set_id]
    return [_span(from_ds, _next_record(pins, from_ds)) for from_ds in pinned]


def _require_unused(dataset: DatasetSpec, catalogue: Catalogue, shared_set_id: str) -> None:
    used = [run.run_id for run in runs_of(read_runs(dataset), shared_set_id)]
    if used:
        raise SharedSetError(
            f"shared set {shared_set_id} is used by {len(used)} runs whose manifests are kept: {', '.join(used)}; "
            "retrain those days with another set first, or pin another set for the days to come"
        )
    pinned = [pin for pin in catalogue.pins if pin.shared_set_id == shared_set_id]
    if pinned:
        unpin = command("shared_sets", dataset, "unpin", f"--from {pinned[0].from_ds}")
        raise SharedSetError(
            f"shared set {shared_set_id} is pinned from {', '.join(p.from_ds for p in pinned)} on; remove the pin "
            f"first: {unpin}"
        )


def _write(dataset: DatasetSpec, from_ds: date, shared_set_id: str | None) -> None:
    write_rows(dataset, [Pin(from_ds=str(from_ds), shared_set_id=shared_set_id, recorded_at=datetime.now(UTC))])


def _next_record(pins: Sequence[Pin], from_ds: date) -> date | None:
    return next((p.first_day for p in pins if p.first_day > from_ds), None)


def _span(from_ds: date, until: date | None) -> str:
    return f"from {from_ds} on" if until is None else f"from {from_ds} until {until}"


def _reruns_that_change(dataset: DatasetSpec, from_ds: date, until: date | None) -> list[str]:
    """A line about the trained days in between that the tables now give another set than their runs used."""
    catalogue = read_catalogue(dataset)
    changed = []
    for ds, used in sets_of_days(read_runs(dataset)).items():
        if from_ds <= ds and (until is None or ds < until):
            found = catalogue.find(ds)
            if used != ({found.shared_set_id} if found else set()):
                changed.append(str(ds))
    if not changed:
        return ["no trained day of them used another set"]
    return [
        f"{len(changed)} trained days of them used another set or none; their runs stay, a rerun would use the set in "
        f"force now: {', '.join(changed)}"
    ]
