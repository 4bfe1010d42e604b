"""One Airflow asset per published table; its partition key is the day."""

from __future__ import annotations

from airflow.sdk import Asset

GROUP = "lake"


def table_asset(table: str) -> Asset:
    """The asset of a Delta table of the lake."""
    return Asset(name=table, uri=f"msr://lake/{table}", group=GROUP)


IMPRESSIONS = table_asset("impressions")
QUARANTINE = table_asset("quarantine")
AUDITS = table_asset("audits")
VOCABULARIES = table_asset("vocabularies")
BEHAVIOUR_SEQUENCES = table_asset("behaviour_sequences")
SCENARIO_FEATURES = table_asset("scenario_features")
SHARED_INSTANCE_SETS = table_asset("shared_instance_sets")
SHARED_INSTANCE_MASKS = table_asset("shared_instance_masks")
SHARED_INSTANCE_DRIFT = table_asset("shared_instance_drift")
TRAINING_RUNS = table_asset("training_runs")
EVALUATIONS = table_asset("evaluations")
GAINS = table_asset("gains")
