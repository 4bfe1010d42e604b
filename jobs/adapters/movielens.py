"""Adapter `movielens`: the files of MovieLens-1M (scripts/get_movielens.py), ratings joined with users and movies."""

from __future__ import annotations

from datetime import date

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from jobs.adapters.downloads import NO_SIDE_RECORD, lacks, refused, with_side_file
from jobs.adapters.files import read_text
from jobs.adapters.raw_log import missing_log, source_path
from jobs.adapters.source_files import escaped
from schemas.dataset_spec import DatasetSpec
from schemas.errors import SourceError

COLUMNS = {
    "ml-1m.inter": ["user_id", "item_id", "rating", "timestamp"],
    "ml-1m.user": ["user_id", "age", "gender", "occupation", "zip_code"],
    "ml-1m.item": ["item_id", "release_year", "genre"],
}


def read(spark: SparkSession, dataset: DatasetSpec, ds: date) -> DataFrame:
    """All ratings with the columns of their user and movie, `first_genre` beside `genre`.

    A rating whose user or movie is not in the side files is a refused row.
    """
    folder = source_path(dataset, ds).rstrip("/")
    ratings, users, movies = (_read(spark, dataset, ds, folder, name) for name in COLUMNS)
    rated = with_side_file(ratings, users, "user_id", COLUMNS["ml-1m.user"][1:])
    joined = with_side_file(rated, movies, "item_id", COLUMNS["ml-1m.item"][1:])
    missing = F.coalesce(lacks("user_id", "ml-1m.user"), lacks("item_id", "ml-1m.item"))
    names = dict.fromkeys(name for columns in COLUMNS.values() for name in columns)
    first_genre = F.get(F.split("genre", " "), 0).alias("first_genre")
    return joined.select(*names, first_genre, *refused({NO_SIDE_RECORD: missing}))


def _read(spark: SparkSession, dataset: DatasetSpec, ds: date, folder: str, name: str) -> DataFrame:
    """One tab-separated file whose header is `name:type`."""
    path = f"{folder}/{name}"
    frame = read_text(spark, f"{escaped(folder)}/{name}", delimiter="\t", header=True, quoted=False)
    if frame is None:
        raise missing_log(dataset, ds)
    plain = frame.toDF(*[column.split(":")[0] for column in frame.columns])
    if missing := [column for column in COLUMNS[name] if column not in plain.columns]:
        raise SourceError(
            f"{path} lacks columns {missing}; it has {plain.columns}; fetch the files again: scripts/get_movielens.py"
        )
    return plain
