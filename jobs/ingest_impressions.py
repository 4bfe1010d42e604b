"""Read a day of the raw log, refuse rows that break the contract, audit the rest and publish it.

Writes impressions and quarantine (and generated_truth for the generated log), then the day's row counts in audits: that
row is written last, so a day without it has to be ingested again. Every row of the log is published or in quarantine.
"""

from __future__ import annotations

from jobs.auditing.expectations import check_expectations
from jobs.building.impressions import check_day, ingest_days
from jobs.cli import StepArgs, StepOptions, run_step
from lake.provenance import IMPRESSIONS
from lake.spark_session import get_session
from schemas.tables import get_table

GROUP = "daily"


def step(args: StepArgs[StepOptions]) -> None:
    """Ingest one day after the other in one session; a log without a file per day is read once."""
    for ds in args.days:
        check_day(args.dataset, ds)  # before the engine starts
    check_expectations(get_table(IMPRESSIONS).for_dataset(args.dataset), args.dataset.audit.expectations)
    spark = get_session(f"ingest_impressions {args.dataset.name}")
    ingest_days(spark, args.dataset, args.days)


if __name__ == "__main__":
    run_step(__doc__, step, StepOptions)
