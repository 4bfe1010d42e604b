"""Adapter `ali_ccp`: Ali-CCP, impressions joined with the features they share. See docs/public_datasets.md.

sample_skeleton_<split>.csv: sample id, click, conversion, common feature index, number of features, features.
common_features_<split>.csv: common feature index, number of features, features. Neither has a header. Features are
`field \\x02 id \\x03 value`, \\x01 between them.
"""

from __future__ import annotations

from datetime import date

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from jobs.adapters.downloads import NO_SIDE_RECORD, Download, lacks, made_up_time, refused, split_of, with_side_file
from jobs.adapters.raw_log import UNREADABLE, source_path
from jobs.transforms.raw_columns import required_columns
from schemas.dataset_spec import DatasetSpec

PAGE = "https://tianchi.aliyun.com/dataset/408"
SAMPLE = ["sample_id", "click", "conversion", "common_feature_index", "feature_num", "features"]
COMMON = ["common_feature_index", "feature_num", "features"]
COMMON_FIELDS = ["101", "109_14", "110_14", "127_14", "150_14", "121", "122", "124", "125", "126", "127", "128", "129"]
SAMPLE_FIELDS = ["205", "206", "207", "210", "216", "508", "509", "702", "853", "301"]
_LAST_FEATURE = r"(?:^|\x01)[^\x01-\x03]+\x02[^\x01-\x03]+\x03[^\x01-\x03]+$"  # a truncated list ends otherwise


def read(spark: SparkSession, dataset: DatasetSpec, ds: date) -> DataFrame:
    """The samples of the split of `ds` (downloads.split_of) with the feature fields that the YAML names (`101`, ...).

    A field is the id of its first feature, or all of them where the YAML's field is multi-valued. The log has no times:
    `event_time` is made from the sample id (downloads.made_up_time). Refused rows: a sample id that is no positive
    integer, a truncated list of features, no common features, a conversion without a click (the papers drop those).
    Raises SourceError where a file is missing.
    """
    split = split_of(dataset, ds)
    download = Download(folder=source_path(dataset, ds).rstrip("/"), page=PAGE)
    samples = download.read(spark, f"sample_skeleton_{split}.csv", SAMPLE, header=False)
    common_file = f"common_features_{split}.csv"
    common = download.read(spark, common_file, COMMON, header=False).where(F.col("features").rlike(_LAST_FEATURE))
    shared, own = _fields(dataset, COMMON_FIELDS), _fields(dataset, SAMPLE_FIELDS)
    number = F.trim("sample_id").try_cast("bigint") - 1
    parsed = samples.select(
        *SAMPLE[:4],
        *[column.alias(name) for name, column in own.items()],
        made_up_time(dataset, ds, F.when(number >= 0, number)).alias("event_time"),
        F.lit(split).alias("split"),
        *refused({UNREADABLE: _truncated(), "bad_sample_id": _bad_id(number)}),
    )
    joined = with_side_file(parsed, common, "common_feature_index", shared)
    unclicked = F.when((F.trim("click") == "0") & (F.trim("conversion") == "1"), F.lit("conversion=1 click=0"))
    checks = {NO_SIDE_RECORD: lacks("common_feature_index", common_file), "conversion_without_click": unclicked}
    names = [*SAMPLE[:4], "split", "event_time", *own, *shared]
    return joined.select(*[f"`{name}`" for name in names], *refused(checks))


def _fields(dataset: DatasetSpec, known: list[str]) -> dict[str, Column]:
    """Those of the `known` fields that the YAML names, out of a list of features: text, or texts where multi-valued."""
    several = {field.source for field in dataset.fields if field.kind == "multi_valued"}
    columns = {}
    for name in known:
        if name in required_columns(dataset):
            pattern = rf"(?:^|\x01){name}\x02([^\x03]*)\x03"
            all_ids = F.regexp_extract_all("features", F.lit(pattern), F.lit(1))
            columns[name] = all_ids if name in several else F.regexp_extract("features", pattern, 1)
    return columns


def _truncated() -> Column:
    """Detail of a sample whose list of features does not end with a whole one."""
    return F.when(~F.coalesce(F.col("features").rlike(_LAST_FEATURE), F.lit(False)), F.col("features"))


def _bad_id(number: Column) -> Column:
    is_good = F.coalesce(number >= 0, F.lit(False))
    return F.when(~is_good, F.concat(F.lit("sample_id="), F.coalesce("sample_id", F.lit("null"))))
