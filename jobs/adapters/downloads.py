"""What adapters of downloaded data sets share: files of a folder, side files, refused rows, and made-up event times."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from jobs.adapters.files import read_text
from jobs.adapters.source_files import escaped
from jobs.transforms.raw_columns import REFUSED_DETAIL, REFUSED_REASON, SOURCE
from schemas.dataset_spec import DatasetSpec
from schemas.errors import DatasetSpecError, SourceError

NO_SIDE_RECORD = "no_side_record"
DAY_MS = 86_400_000
BEIJING_MS = 8 * 3_600_000  # no summer time since 1991


@dataclass(frozen=True, kw_only=True)
class Download:
    """A folder of files and the page it was fetched from."""

    folder: str
    page: str

    def read(self, spark: SparkSession, name: str, columns: Sequence[str], *, header: bool = True) -> DataFrame:
        """A comma-separated file (or a glob of files) with at least `columns`, all as text, and the adapters' columns.

        Without a header the file has exactly `columns`; a line with another number is a refused row. Blanks around the
        names of a header do not count. Raises SourceError where the file is missing or lacks a column.
        """
        path = f"{escaped(self.folder)}/{name}"
        frame = read_text(
            spark, path, delimiter=",", header=header, quoted=header, names=() if header else tuple(columns)
        )
        if frame is None:
            raise SourceError(
                f"{name} is missing in {self.folder}: fetch it from {self.page} (docs/public_datasets.md) or fix "
                "source.path"
            )
        plain = frame.toDF(*[column.strip() for column in frame.columns])
        if missing := [column for column in columns if column not in plain.columns]:
            raise SourceError(
                f"{self.folder}/{name} lacks columns {missing}; it has {plain.columns}; fetch it again from {self.page}"
            )
        return plain.select(*columns, SOURCE, REFUSED_REASON, REFUSED_DETAIL)


def with_side_file(
    rows: DataFrame, side: DataFrame, key: str, columns: Sequence[str] | Mapping[str, Column]
) -> DataFrame:
    """`rows` with `columns` of the side file's row of the same `key` and `has_<key>`, null where there is none.

    Unreadable lines of the side file are skipped. Of lines with one key the least by value is taken: a join must not
    multiply rows.
    """
    named = columns if isinstance(columns, Mapping) else {name: F.col(name) for name in columns}
    readable = side.where(F.col(REFUSED_REASON).isNull() & F.col(key).isNotNull())
    line = F.struct(*[column.alias(name) for name, column in named.items()])
    least = readable.groupBy(key).agg(F.min(line).alias("line"))
    fields = [F.col(f"line.`{name}`").alias(name) for name in named]
    return rows.join(least.select(key, *fields, F.lit(True).alias(f"has_{key}")), on=key, how="left")


def lacks(key: str, file: str) -> Column:
    """Detail of a row whose key `with_side_file` did not find in `file`; null for others."""
    absent = F.col(key).isNotNull() & F.col(f"has_{key}").isNull()
    return F.when(absent, F.concat(F.lit(f"no {key}="), F.col(key), F.lit(f" in {file}")))


def refused(checks: Mapping[str, Column]) -> list[Column]:
    """The adapters' three columns; a row is refused for its file's own reason or the first check with a detail."""
    reason = F.coalesce(F.col(REFUSED_REASON), *[F.when(detail.isNotNull(), F.lit(r)) for r, detail in checks.items()])
    first = F.coalesce(*checks.values())
    own = F.col(REFUSED_REASON).isNotNull()
    return [
        F.col(SOURCE),
        reason.alias(REFUSED_REASON),
        F.when(own, F.col(REFUSED_DETAIL)).otherwise(first).alias(REFUSED_DETAIL),
    ]


def beijing_time(name: str, *, ticks_per_second: int) -> Column:
    """Wall clock of Beijing, as ISO text, of an epoch; what is not a number stays as it is, so that it can be reported.

    A day of the pipeline is then a local day of the log's users, as in the papers.
    """
    ms = F.trim(F.col(name)).try_cast("decimal(20,3)") * F.lit(1000 // ticks_per_second) + F.lit(BEIJING_MS)
    instant = F.timestamp_millis(ms.try_cast("bigint"))
    return F.coalesce(F.date_format(instant, "yyyy-MM-dd'T'HH:mm:ss.SSS"), F.col(name))


def split_of(dataset: DatasetSpec, ds: date) -> str:
    """The download's split that day `ds` holds where a log has no times: `test` on the last day, else `train`.

    Raises DatasetSpecError where the data set names no last day, or has no day before it.
    """
    end = dataset.days.end
    if end is None or end <= dataset.days.start:
        raise DatasetSpecError(
            f"days.end: {end} of {dataset.name}: its log has no times; give a last day after {dataset.days.start}, "
            "which becomes the test split; the days before it become the training split"
        )
    return "test" if ds == end else "train"


def made_up_time(dataset: DatasetSpec, ds: date, number: Column) -> Column:
    """Made-up event time of a row of a log without times, from the row's number alone (bigint, from 0; null: midnight).

    Rows of the training split go to the days before the last one in turn; the test split goes to the last day. Within
    a day the rows are a millisecond apart.
    """
    start, end = dataset.days.start, dataset.days.end or ds
    is_test = split_of(dataset, ds) == "test"
    days = 1 if is_test else (end - start).days
    midnight = datetime.combine(end if is_test else start, datetime.min.time(), UTC)
    slot = F.pmod(F.floor(number / F.lit(days)), F.lit(DAY_MS))
    elapsed = F.pmod(number, F.lit(days)) * F.lit(DAY_MS) + slot
    made_up = F.timestamp_millis(F.lit(int(midnight.timestamp()) * 1000) + F.coalesce(elapsed, F.lit(0)))
    return F.to_utc_timestamp(made_up, dataset.days.time_zone)
