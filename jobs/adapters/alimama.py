"""Adapter `alimama`: ad impressions of Taobao joined with ads and users. See docs/public_datasets.md."""

from __future__ import annotations

from datetime import date

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from jobs.adapters.downloads import NO_SIDE_RECORD, Download, beijing_time, lacks, refused, with_side_file
from jobs.adapters.raw_log import source_path
from schemas.dataset_spec import DatasetSpec

PAGE = "https://tianchi.aliyun.com/dataset/56"
SAMPLE = ["user", "time_stamp", "adgroup_id", "pid", "nonclk", "clk"]
ADS = ["cate_id", "campaign_id", "customer", "brand", "price"]
USERS = [
    *("cms_segid", "cms_group_id", "final_gender_code", "age_level", "pvalue_level"),
    *("shopping_level", "occupation", "new_user_class_level"),
]
NULL = "NULL"  # an unknown brand in ad_feature.csv


def read(spark: SparkSession, dataset: DatasetSpec, ds: date) -> DataFrame:
    """All impressions with the columns of their ad and user, `beijing_time` beside `time_stamp`.

    Users without a profile (about 6 %) are kept: their columns are null, their `shopping_level` is 0, a separate
    scenario in SSIM's preprocessing. A row whose ad is not in ad_feature.csv, or whose `clk` and `nonclk` contradict
    each other, is a refused row. Raises SourceError where a file is missing or lacks a column.
    """
    download = Download(folder=source_path(dataset, ds).rstrip("/"), page=PAGE)
    samples = download.read(spark, "raw_sample.csv", SAMPLE)
    ads = download.read(spark, "ad_feature.csv", ["adgroup_id", *ADS])
    users = download.read(spark, "user_profile.csv", ["userid", *USERS]).withColumnRenamed("userid", "user")
    known = {name: F.when(F.col(name) != NULL, F.col(name)) for name in ADS}
    joined = with_side_file(with_side_file(samples, ads, "adgroup_id", known), users, "user", USERS)
    level = F.when(F.col("has_user").isNull(), F.lit("0")).otherwise(F.col("shopping_level"))
    profile = [level.alias(name) if name == "shopping_level" else F.col(name) for name in USERS]
    both = F.concat(F.lit("clk="), "clk", F.lit(" nonclk="), "nonclk")
    checks = {
        NO_SIDE_RECORD: lacks("adgroup_id", "ad_feature.csv"),
        "bad_label": F.when(F.trim("clk") == F.trim("nonclk"), both),
    }
    time = beijing_time("time_stamp", ticks_per_second=1).alias("beijing_time")
    return joined.select(*SAMPLE, time, *ADS, *profile, *refused(checks))
