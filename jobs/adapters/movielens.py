"""Adapter `movielens`: the files of MovieLens-1M (scripts/get_movielens.py), ratings joined with users and movies."""

from __future__ import annotations

from datetime import date

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from jobs.adapters.files import read_delimited
from jobs.adapters.raw_log import source_path
from jobs.transforms.canonical import REFUSED_DETAIL, REFUSED_REASON, SOURCE
from schemas.dataset_spec import DatasetSpec
from schemas.errors import SourceError

COLUMNS = {
    "ml-1m.inter": ["user_id", "item_id", "rating", "timestamp"],
    "ml-1m.user": ["user_id", "age", "gender", "occupation", "zip_code"],
    "ml-1m.item": ["item_id", "release_year", "genre"],
}
NO_SIDE_RECORD = "no_side_record"


def read(spark: SparkSession, dataset: DatasetSpec, ds: date) -> DataFrame:
    """All ratings with the columns of their user and movie, `first_genre` beside `genre`.

    A rating whose user or movie is not in the side files is a refused row.
    """
    folder = source_path(dataset, ds).rstrip("/")
    ratings = _read(spark, folder, "ml-1m.inter")
    users = _side(_read(spark, folder, "ml-1m.user"), "user_id", COLUMNS["ml-1m.user"])
    movies = _side(_read(spark, folder, "ml-1m.item"), "item_id", COLUMNS["ml-1m.item"])
    joined = ratings.join(users, on="user_id", how="left").join(movies, on="item_id", how="left")
    lacks_user = F.col("user_id").isNotNull() & F.col("has_user_id").isNull()
    lacks_movie = F.col("item_id").isNotNull() & F.col("has_item_id").isNull()
    detail = F.when(lacks_user, F.concat(F.lit("no user_id="), "user_id", F.lit(" in ml-1m.user"))).when(
        lacks_movie, F.concat(F.lit("no item_id="), "item_id", F.lit(" in ml-1m.item"))
    )
    own = list(dict.fromkeys(name for names in COLUMNS.values() for name in names))
    return joined.select(
        *own,
        F.get(F.split("genre", " "), 0).alias("first_genre"),
        SOURCE,
        F.coalesce(REFUSED_REASON, F.when(detail.isNotNull(), F.lit(NO_SIDE_RECORD))).alias(REFUSED_REASON),
        F.coalesce(REFUSED_DETAIL, detail).alias(REFUSED_DETAIL),
    )


def _read(spark: SparkSession, folder: str, name: str) -> DataFrame:
    """One tab-separated file whose header is `name:type`."""
    path = f"{folder}/{name}"
    frame = read_delimited(spark, path, delimiter="\t", header=True, quoted=False)
    plain = frame.toDF(*[column.split(":")[0] for column in frame.columns])
    if missing := [column for column in COLUMNS[name] if column not in plain.columns]:
        raise SourceError(
            f"{path} lacks columns {missing}; it has {plain.columns}; fetch the files again: scripts/get_movielens.py"
        )
    return plain


def _side(frame: DataFrame, key: str, columns: list[str]) -> DataFrame:
    """One row per key (the least, should one repeat: a join must not multiply ratings); unreadable lines left out."""
    rest = [name for name in columns if name != key]
    least = frame.where(F.col(REFUSED_REASON).isNull()).groupBy(key).agg(F.min(F.struct(*rest)).alias("row"))
    return least.select(key, *[F.col(f"row.{name}").alias(name) for name in rest], F.lit(True).alias(f"has_{key}"))
