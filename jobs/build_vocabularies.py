"""Build the vocabulary version that a day uses, and the earlier ones of its chain where they are missing.

Version j is fitted on the vocabulary.fit_days days before its first day, keeps every id of version j-1 and appends new
values; where a field has evict_after_days, values that were not seen for so long lose their ids. A published version
never changes, even if the impressions that it was fitted on do. Days before the first version have no features, and
this step writes nothing for them.
"""

from __future__ import annotations

import logging
from datetime import date

from pyspark.sql import SparkSession

from jobs.building.days import for_each_feature_day
from jobs.building.vocabularies import ensure_vocabulary, usable_versions
from jobs.cli import StepArgs, StepOptions, run_step
from schemas.dataset_spec import DatasetSpec

log = logging.getLogger(__name__)

GROUP = "daily"


def build_day(spark: SparkSession, dataset: DatasetSpec, ds: date) -> None:
    """Build the version of one day that has features, unless it is published."""
    version = dataset.vocabulary_version(ds)
    if version in usable_versions(dataset):
        log.info(f"{dataset.name} {ds}: vocabulary {version} is published and stays as it is")
    else:
        ensure_vocabulary(spark, dataset, ds)


def step(args: StepArgs[StepOptions]) -> None:
    """Versions of all days."""
    for_each_feature_day("build_vocabularies", args.dataset, args.days, build_day)


if __name__ == "__main__":
    run_step(__doc__, step, StepOptions)
