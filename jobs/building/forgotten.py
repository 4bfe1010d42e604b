"""Records of users who were forgotten: counted when their day is ingested, and not stored."""

from __future__ import annotations

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from jobs.transforms import canonical
from lake.rows import read_rows
from schemas.dataset_spec import DatasetSpec
from schemas.tables.forgotten_users import REASON, ForgottenUser


def refuse_forgotten(classified: DataFrame, dataset: DatasetSpec) -> DataFrame:
    """`classified` with records of forgotten users refused, whatever else is wrong with them, without their text."""
    forgotten = read_rows(dataset, ForgottenUser)
    if not forgotten:
        return classified
    digests = [F.sha2(F.concat(F.lit(salt), "user_id"), 256) for salt in sorted({row.salt for row in forgotten})]
    known = [row.digest for row in forgotten]
    is_forgotten = F.lit(False)
    for digest in digests:
        is_forgotten = is_forgotten | F.coalesce(digest.isin(known), F.lit(False))
    texts = {canonical.REASON: REASON, canonical.DETAIL: "", canonical.RAW_RECORD: "{}"}
    return classified.withColumns(
        {name: F.when(is_forgotten, F.lit(text)).otherwise(F.col(name)) for name, text in texts.items()}
    )
