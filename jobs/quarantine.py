"""Show the refused rows of a day: how many per reason, what was wrong, and the records as they came.

Also of a day whose audit failed, so that nothing was published. --reason shows one reason, --limit how many rows of
each; --from and --to show several days.
"""

from __future__ import annotations

from datetime import date

import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field

from jobs.cli import StepArgs, StepOptions, run_step
from lake.reader import condition, open_dataset, table_exists
from lake.rows import read_rows
from schemas.commands import command
from schemas.dataset_spec import DatasetSpec
from schemas.errors import TableError
from schemas.tables.audits import Audit
from schemas.text import aligned_table, did_you_mean

GROUP = "operators"
QUARANTINE, IMPRESSIONS = "quarantine", "impressions"


class QuarantineOptions(StepOptions):
    """Options of this command."""

    reason: str | None = Field(default=None, description="show rows of this reason only")
    limit: int = Field(default=5, ge=0, le=1_000_000, description="rows to show of each reason")


def lines_of_day(dataset: DatasetSpec, ds: date, reason: str | None, limit: int) -> list[str]:
    """What happened to the day's rows, counts per reason, then up to `limit` rows of each.

    Raises TableError where the day was never ingested or has no rows of `reason`.
    """
    audits = read_rows(dataset, Audit, days=[ds], filters={"table_name": IMPRESSIONS})
    if not audits:
        raise TableError(
            f"{dataset.name} {ds} was not ingested yet; run '{command('ingest_impressions', dataset, f'--ds {ds}')}', "
            "or check MSR_LAKE_ROOT"
        )
    (audit,) = audits
    reasons = _reasons(dataset, ds)
    if reason is not None and reason not in reasons:
        hint = did_you_mean(reason, reasons, otherwise=f"it has {', '.join(reasons) or 'no refused rows'}")
        raise TableError(f"--reason {reason}: {dataset.name} {ds} has no rows of that reason; {hint}")
    published = f"{audit.rows_published} published" if audit.status == "published" else "nothing published"
    refused = sum(reasons.values())
    lines = [f"{dataset.name} {ds}: {audit.rows_in} rows in, {published}, {refused} refused"]
    lines += [f"  {line}" for line in aligned_table([(name, str(rows)) for name, rows in reasons.items()] or [("",)])]
    for name in [reason] if reason else reasons:
        lines += _rows(dataset, ds, name, reasons[name], limit)
    return [line.rstrip() for line in lines if line.strip()]


def _reasons(dataset: DatasetSpec, ds: date) -> dict[str, int]:
    """Refused rows per reason, the most frequent first."""
    if not table_exists(dataset, QUARANTINE):
        return {}
    rows = open_dataset(dataset, QUARANTINE, ["reason"]).to_table(columns=["reason"], filter=condition([ds]))
    counted = pc.value_counts(rows["reason"]).to_pylist()
    return {c["values"]: c["counts"] for c in sorted(counted, key=lambda c: (-c["counts"], c["values"]))}


def _rows(dataset: DatasetSpec, ds: date, reason: str, num_rows: int, limit: int) -> list[str]:
    files = open_dataset(dataset, QUARANTINE, ["detail", "raw_record", "source"])
    wanted = condition([ds]) & (pc.field("reason") == reason)
    rows: pa.Table = files.head(limit, columns=["detail", "raw_record", "source"], filter=wanted)
    if not rows.num_rows:
        return []
    more = f" ({num_rows - rows.num_rows} more: --limit)" if rows.num_rows < num_rows else ""
    shown = [f"  {row['detail']}  {row['raw_record']}  {row['source']}" for row in rows.to_pylist()]
    return [f"{reason}{more}:", *shown]


def step(args: StepArgs[QuarantineOptions]) -> None:
    """Print each day."""
    for ds in args.days:
        print("\n".join(lines_of_day(args.dataset, ds, args.options.reason, args.options.limit)), flush=True)


if __name__ == "__main__":
    run_step(__doc__, step, QuarantineOptions)
