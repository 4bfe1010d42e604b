"""One day's sequences and features as hand-written DuckDB queries: what a single process without Spark needs.

Reads the Parquet files of the same Delta tables and writes Parquet. Only the transform: keys, nulls, constraints and
row counts are not checked, nothing is committed, and `user_key` is a different hash (DuckDB has no xxhash64).
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from pathlib import Path

import duckdb

from jobs.transforms.statistics import CTR_CENTRE, HIGHEST_ID, LOWEST_CTR, PRIOR_IMPRESSIONS
from lake.reader import open_table
from lake.vocabularies import VOCABULARIES, published_versions
from schemas.dataset_spec import DatasetSpec
from schemas.field_spec import FieldSpec


def build_day(dataset: DatasetSpec, ds: date, version: str, folder: Path, threads: int) -> tuple[Path, Path]:
    """Write the sequences and features of `ds` to two Parquet files in `folder`; returns their paths."""
    connection = duckdb.connect(config={"threads": threads})
    with connection:
        _open(connection, dataset, ds, version)
        connection.execute(f"CREATE TABLE sequences AS {_sequences(dataset, ds)}")
        connection.execute(f"CREATE TABLE statistics_prior AS {_PRIOR}")
        paths = folder / "sequences.parquet", folder / "features.parquet"
        for path, query in zip(paths, ("FROM sequences", _features(dataset)), strict=True):
            connection.execute(f"COPY ({query}) TO '{path}' (FORMAT parquet)")
    return paths


def _open(connection: duckdb.DuckDBPyConnection, dataset: DatasetSpec, ds: date, version: str) -> None:
    """Views: vocabulary, recent (days of behaviours), past (days of statistics), today."""
    impressions = open_table(dataset, "impressions")

    def files(days: Sequence[date]) -> str:
        return _scan(impressions.file_uris([("ds", "in", [str(day) for day in days])]))

    assert dataset.statistics is not None
    recent = [*dataset.days_before(ds, dataset.sequence.lookback_days), ds]
    past = dataset.days_before(ds, dataset.statistics.lookback_days)
    for name, days in (("recent", recent), ("past", past), ("today", [ds])):
        connection.execute(f"CREATE VIEW {name} AS SELECT *, epoch_us(event_ts) AS ts FROM {files(days)}")
    versions = sorted(v for v in published_versions(dataset) if v <= version and v.endswith(dataset.lineage))
    uris = open_table(dataset, VOCABULARIES).file_uris([("first_version", "in", versions)])
    connection.execute(f"CREATE TABLE vocabulary AS SELECT field, value, id FROM {_scan(uris)} WHERE change = 'added'")


def _scan(uris: Sequence[str]) -> str:
    return f"read_parquet({[str(uri) for uri in uris]}, hive_partitioning = true, hive_types_autocast = false)"


def _sequences(dataset: DatasetSpec, ds: date) -> str:
    sequence = dataset.sequence
    names = [sequence.item_field, *sequence.attributes]
    joins = " ".join(
        f"LEFT JOIN vocabulary v{n} ON v{n}.field = '{name}' AND v{n}.value = r.x_{name}"
        for n, name in enumerate(names)
    )
    ids = ", ".join(f"coalesce(v{n}.id, 0)::INT AS id{n}" for n in range(len(names)))
    kept = "AND r.label = 1" if sequence.behaviour == "positive" else ""
    columns = {"hist_event_ts": "ts", "hist_scenario_ids": "scenario_id", "hist_item_ids": "id0"}
    columns |= {f"hist_f_{name}": f"id{n}" for n, name in enumerate(sequence.attributes, start=1)}
    lists = ", ".join(
        f"coalesce(list({source} ORDER BY ts, instance_id) FILTER (ts IS NOT NULL), []) AS {name}"
        for name, source in columns.items()
    )
    start = f"greatest(len(list_filter(hist_event_ts, lambda t: t < first_ts)) - {sequence.max_length}, 0) + 1"
    visible = ", ".join(f"{name}[first_seen:] AS {name}" for name in columns)
    return f"""
        WITH users AS (SELECT user_id, min(ts) AS first_ts FROM today GROUP BY user_id),
        behaviours AS (
            SELECT r.user_id, r.ts, r.instance_id, r.scenario_id, {ids} FROM recent r {joins}
            WHERE r.user_id IN (SELECT user_id FROM users) {kept}
        ),
        lists AS (
            SELECT user_id, first_ts, {lists}
            FROM users LEFT JOIN behaviours USING (user_id) GROUP BY user_id, first_ts
        )
        SELECT '{ds}' AS ds, hash(user_id) AS user_key, user_id, {visible}
        FROM (SELECT *, {start} AS first_seen FROM lists)"""


_PRIOR = f"""
    SELECT scenario_id, greatest(least(avg(label), 1 - {LOWEST_CTR}::DOUBLE), {LOWEST_CTR}::DOUBLE) AS prior
    FROM past GROUP BY scenario_id"""


def _statistics(entity: str) -> str:
    p = f"((clicks + {PRIOR_IMPRESSIONS} * prior) / (n + {PRIOR_IMPRESSIONS}))"
    step = f"floor(2.0::DOUBLE * ln({p} / (1.0::DOUBLE - {p})) + 0.5::DOUBLE)"
    return f"""(
        SELECT scenario_id, {entity}_id, least(length(bin(n)), {HIGHEST_ID})::INT AS impressions,
               (1 + greatest(least({step} + {CTR_CENTRE}, {HIGHEST_ID - 1}), 0))::INT AS ctr
        FROM (SELECT scenario_id, {entity}_id, count(*) AS n, sum(label) AS clicks FROM past GROUP BY ALL)
        JOIN statistics_prior USING (scenario_id)
    )"""


def _features(dataset: DatasetSpec) -> str:
    joins, columns = [], []
    for n, field in enumerate(dataset.fields):
        join, column = _field(field, f"v{n}")
        joins.append(join)
        columns.append(f"{column} AS f_{field.name}")
    assert dataset.statistics is not None
    for entity in dataset.statistics.of:
        joins.append(f"LEFT JOIN {_statistics(entity)} s_{entity} USING (scenario_id, {entity}_id)")
        columns += [
            f"coalesce(s_{entity}.{name}, 0)::INT AS f_{entity}_scenario_{name}" for name in ("impressions", "ctr")
        ]
    return f"""
        SELECT t.ds, t.scenario_id, t.instance_id, t.event_ts, h.user_key, t.label, t.value,
               len(list_filter(h.hist_event_ts, lambda b: b < t.ts))::INT AS hist_end, {", ".join(columns)}
        FROM today t JOIN sequences h USING (user_id) {" ".join(joins)}"""


def _field(field: FieldSpec, alias: str) -> tuple[str, str]:
    """(join, expression of the id) of a field."""
    raw = f"t.{field.raw_column}"
    if field.kind == "categorical":
        join = f"LEFT JOIN vocabulary {alias} ON {alias}.field = '{field.name}' AND {alias}.value = {raw}"
        return join, f"coalesce({alias}.id, 0)::INT"
    if field.kind == "multi_valued":
        return _multi_valued(field, alias), f"coalesce({alias}.ids, []::INT[])"
    edges = f"(SELECT list(value::DOUBLE) AS edges FROM vocabulary WHERE field = '{field.name}')"
    bin_id = f"len(list_filter({alias}.edges, lambda e: e <= {raw}))"
    return f"CROSS JOIN {edges} {alias}", f"CASE WHEN {raw} IS NULL OR isnan({raw}) THEN 0 ELSE {bin_id} END::INT"


def _multi_valued(field: FieldSpec, alias: str) -> str:
    raw = field.raw_column
    return f"""LEFT JOIN (
        SELECT {raw}, list(id::INT ORDER BY position)[:{field.max_values}] AS ids
        FROM (
            SELECT {raw}, id, min(position) AS position
            FROM (
                SELECT {raw}, unnest({raw}) AS value, generate_subscripts({raw}, 1) AS position
                FROM (SELECT DISTINCT {raw} FROM today)
            ) JOIN (FROM vocabulary WHERE field = '{field.name}') USING (value)
            GROUP BY {raw}, id
        ) GROUP BY {raw}
    ) {alias} ON {alias}.{raw} = t.{raw}"""
