"""hash64 is Spark's xxhash64, whatever the length of the text."""

from __future__ import annotations

import pytest
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from lake.hash64 import hash64

TEXTS = ["", "7", "u17", "four", "user-20260101", "Łódź ☃", *("x" * n for n in (7, 8, 12, 31, 32, 33, 64, 101))]


@pytest.mark.slow
@pytest.mark.spark
def test_it_is_sparks(spark: SparkSession) -> None:
    rows = spark.createDataFrame([(text,) for text in TEXTS], "text string")
    assert {r["text"]: r["hash"] for r in rows.select("text", F.xxhash64("text").alias("hash")).collect()} == {
        text: hash64(text) for text in TEXTS
    }


def test_known_values() -> None:
    assert hash64("") == -7444071767201028348
    assert hash64("") != hash64("a")
