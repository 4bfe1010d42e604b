"""Record what each partition was made of, and refuse partitions that the YAML or their inputs no longer agree with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date

from lake import reader
from lake.rows import read_rows, write_rows
from schemas.commands import command, day_options
from schemas.dataset_spec import DatasetSpec
from schemas.errors import TableError
from schemas.provenance import Change, MadeOf, changes, settings_of
from schemas.table_spec import FINGERPRINT
from schemas.tables.audits import Audit
from schemas.tables.provenance import Provenance

IMPRESSIONS = "impressions"


@dataclass(frozen=True, kw_only=True, slots=True)
class Stale:
    """A published day that would be made of something else today. unknown: it does not say what it was made of."""

    ds: date
    changes: tuple[Change, ...] = ()
    inputs: tuple[str, ...] = ()
    unknown: bool = False


def made_of(dataset: DatasetSpec, table: str, ds: date) -> MadeOf:
    """What the day's partition is made of when it is built now, from the YAML and the audits of the impressions."""
    return _made_of(dataset, table, [ds])[ds]


def record(dataset: DatasetSpec, made: MadeOf) -> str:
    """Write what a partition is made of, before the partition itself; returns the fingerprint that its rows get."""
    if not read_rows(dataset, Provenance, filters={"fingerprint": made.fingerprint}):
        write_rows(dataset, [Provenance.of(made)])
    return made.fingerprint


def stale_days(
    dataset: DatasetSpec, table: str, days: Sequence[date], *, version: int | None = None, with_inputs: bool = True
) -> list[Stale]:
    """Those of the published `days` that were made with other settings, or (with_inputs) of other impressions."""
    recorded = _fingerprints(dataset, table, days, version)
    expected = _made_of(dataset, table, list(recorded))
    suspects = {day: found for day, found in recorded.items() if found != expected[day].fingerprint}
    known = _provenance(dataset, {found for found in suspects.values() if found})
    stale = [_compare(dataset, day, known.get(found or ""), expected[day]) for day, found in suspects.items()]
    return [s for s in stale if s.unknown or s.changes or (with_inputs and s.inputs)]


def require_current(
    dataset: DatasetSpec, table: str, days: Sequence[date], *, version: int | None = None, with_inputs: bool = True
) -> None:
    """Raise TableError, with the commands in order, where `stale_days` finds any of the days."""
    if stale := stale_days(dataset, table, days, version=version, with_inputs=with_inputs):
        raise TableError(f"{dataset.name}/{table} {_days_of(stale)}: {_reason(stale)}; {remedy(dataset, table, stale)}")


def remedy(dataset: DatasetSpec, table: str, stale: Sequence[Stale]) -> str:
    """The commands that make the stale days anew, in the order in which to run them."""
    commands = []
    days = [s.ds for s in stale]
    if any(s.unknown or any(change.table == IMPRESSIONS for change in s.changes) for s in stale):
        others = [s.ds for s in stale_days(dataset, IMPRESSIONS, sorted(reader.published_days(dataset, IMPRESSIONS)))]
        if others or table == IMPRESSIONS:
            commands.append(command("ingest_impressions", dataset, day_options(others or days)))
    if table != IMPRESSIONS:
        commands.append(command(f"build_{table}", dataset, day_options(days)))
    return f"undo the change, or run in this order: {'; then '.join(commands)}"


def _reason(stale: Sequence[Stale]) -> str:
    if any(s.unknown for s in stale):
        return "an earlier version made them and did not record of what"
    found = list(dict.fromkeys(str(change) for s in stale for change in s.changes))
    if found:
        return f"made with other settings: {', '.join(found[:5])}{' ...' if len(found) > 5 else ''}"
    inputs = list(dict.fromkeys(name for s in stale for name in s.inputs))
    shown = f"{', '.join(inputs[:5])}{' ...' if len(inputs) > 5 else ''}"
    return f"made from rows that have changed since: {shown}"


def _days_of(stale: Sequence[Stale]) -> str:
    days = sorted(s.ds for s in stale)
    return str(days[0]) if len(days) == 1 else f"{days[0]} .. {days[-1]} ({len(days)} days)"


def _compare(dataset: DatasetSpec, ds: date, recorded: MadeOf | None, expected: MadeOf) -> Stale:
    if recorded is None:
        return Stale(ds=ds, unknown=True)
    names = sorted(recorded.inputs.keys() | expected.inputs.keys())
    differ = tuple(name for name in names if recorded.inputs.get(name) != expected.inputs.get(name))
    return Stale(ds=ds, changes=tuple(changes(dataset, recorded, ds)), inputs=differ)


def _made_of(dataset: DatasetSpec, table: str, days: Sequence[date]) -> dict[date, MadeOf]:
    inputs_D = {day: [] if table == IMPRESSIONS else _input_days(dataset, table, day) for day in days}
    wanted = sorted({one for inputs in inputs_D.values() for one in inputs})
    audits = read_rows(dataset, Audit, days=wanted, filters={"table_name": IMPRESSIONS}) if wanted else []
    digests = {audit.ds: audit.content_digest for audit in audits}
    return {
        day: MadeOf(
            table=table,
            settings=settings_of(dataset, table, day),
            inputs={f"{IMPRESSIONS} {one}": digest for one in inputs if (digest := digests.get(str(one)))},
        )
        for day, inputs in inputs_D.items()
    }


def _input_days(dataset: DatasetSpec, table: str, ds: date) -> list[date]:
    lookback = dataset.sequence.lookback_days
    if table == "scenario_features" and dataset.statistics is not None:
        lookback = max(lookback, dataset.statistics.lookback_days)
    return [*dataset.days_before(ds, lookback), ds]


def _fingerprints(
    dataset: DatasetSpec, table: str, days: Sequence[date], version: int | None
) -> dict[date, str | None]:
    """Day -> fingerprint of its rows, None where they have none; days without rows are left out."""
    if not reader.table_exists(dataset, table):
        return {}
    source = reader.open_dataset(dataset, table, (), version)
    if FINGERPRINT.name not in source.schema.names:
        return dict.fromkeys(set(days) & reader.published_days(dataset, table))
    found: dict[date, str | None] = {}
    for day in days:
        first = source.head(1, columns=[FINGERPRINT.name], filter=reader.condition([day]))
        if first.num_rows:
            found[day] = first[FINGERPRINT.name][0].as_py()
    return found


def _provenance(dataset: DatasetSpec, fingerprints: set[str]) -> Mapping[str, MadeOf]:
    rows = [row for one in sorted(fingerprints) for row in read_rows(dataset, Provenance, filters={"fingerprint": one})]
    return {row.fingerprint: row.made_of for row in rows}
