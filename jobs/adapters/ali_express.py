"""Adapter `ali_express`: AliExpress search pages, products joined with their page. See docs/public_datasets.md.

XX_user_<split>.csv: search id, 32 features of user and query (u1 .. u32). XX_item_<split>.csv: search id, 47 features
of a product (i1 .. i47), label (0 seen, 1 clicked, 2 bought). Neither has a header; XX is a country.
"""

from __future__ import annotations

from datetime import date
from functools import reduce

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from jobs.adapters.downloads import NO_SIDE_RECORD, Download, lacks, made_up_time, refused, split_of, with_side_file
from jobs.adapters.raw_log import source_path
from schemas.dataset_spec import DatasetSpec

PAGE = "https://tianchi.aliyun.com/dataset/74690"
USER_FEATURES = [f"u{n}" for n in range(1, 33)]
ITEM_FEATURES = [f"i{n}" for n in range(1, 48)]


def read(spark: SparkSession, dataset: DatasetSpec, ds: date) -> DataFrame:
    """The products of the split of `ds` (downloads.split_of), of the countries that the YAML's scenario names.

    The log names no user, product or time: `page` (country, split and search id) stands for the user, `product` (a hash
    of the product's features) for the item, and `event_time` is made from the page (downloads.made_up_time), so that a
    page stays whole. A product whose page has no user record is a refused row. Raises SourceError where a file is
    missing.
    """
    split = split_of(dataset, ds)
    download = Download(folder=source_path(dataset, ds).rstrip("/"), page=PAGE)
    countries = [country.lower() for country in dataset.scenario.names]
    item_files = [f"{country}_item_{split}.csv" for country in countries]
    user_files = [f"{country}_user_{split}.csv" for country in countries]
    items = _read_all(spark, download, item_files, ["search_id", *ITEM_FEATURES, "label"])
    users = _read_all(spark, download, user_files, ["search_id", *USER_FEATURES])
    joined = with_side_file(items, users, "page", USER_FEATURES)
    user_file = f"XX_user_{split}.csv"
    number = F.pmod(F.xxhash64("page"), F.lit(2**53))
    return joined.select(
        "country",
        "page",
        F.hex(F.xxhash64(*ITEM_FEATURES)).alias("product"),
        made_up_time(dataset, ds, number).alias("event_time"),
        "search_id",
        *USER_FEATURES,
        *ITEM_FEATURES,
        "label",
        *refused({NO_SIDE_RECORD: lacks("page", user_file)}),
    )


def _read_all(spark: SparkSession, download: Download, names: list[str], columns: list[str]) -> DataFrame:
    """The files of several countries, each named like `nl_item_train.csv`, with `country` and `page`."""
    frames = []
    for name in names:
        country, _, split = name.removesuffix(".csv").split("_")
        page = F.concat(F.lit(f"{country}-{split}-"), "search_id")
        frame = download.read(spark, name, columns, header=False)
        frames.append(frame.withColumns({"country": F.lit(country), "page": page}))
    # The checks of a hundred columns of eight files in one plan would outgrow the engine's memory
    return reduce(DataFrame.unionByName, frames).localCheckpoint()
