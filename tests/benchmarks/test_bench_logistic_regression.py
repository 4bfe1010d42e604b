"""The regression's inputs are the target's: every id of a row, and only the behaviours before it."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from benchmarks.bench_logistic_regression import column_sizes, encode, measure_day, read_day_rows, table_lines
from jobs.reporting.collect import collect
from lake.arrow_writer import overwrite_partition
from lake.reader import read_table
from msr_models.evaluation.gains import MEAN
from schemas.errors import TrainingError
from schemas.load_dataset import load_dataset
from schemas.table_spec import FINGERPRINT
from schemas.tables import get_table
from tests.support.report_lake import write_features, write_runs
from tests.support.tiny_lake import with_fingerprint

GENERATED = load_dataset("generated")
DAYS = [GENERATED.days.start + timedelta(days=n) for n in range(2, 8)]


def write_behaviours() -> None:
    """200 users; user u has u % 30 behaviours: items 1, 2, ... And hist_end of a row is its user's half."""
    spec = get_table("behaviour_sequences").for_dataset(GENERATED)
    lists = [list(range(1, u % 30 + 1)) for u in range(200)]
    for day in DAYS:
        columns = {
            "ds": [f"{day}"] * 200,
            "user_key": list(range(200)),
            "user_id": [str(u) for u in range(200)],
            "vocabulary_version": ["v"] * 200,
        }
        columns |= {c.name: lists for c in spec.columns if c.name not in columns and c != FINGERPRINT}
        rows = with_fingerprint(pa.table(columns), GENERATED, spec.name, day).select(spec.column_names)
        overwrite_partition(rows, GENERATED, spec.name, {"ds": f"{day}"})
        features = read_table(GENERATED, "scenario_features", days=[day])
        half = pa.array((features["user_key"].to_numpy() % 30) // 2, pa.int32())
        features = features.set_column(features.column_names.index("hist_end"), "hist_end", half)
        overwrite_partition(features, GENERATED, "scenario_features", {"ds": f"{day}"})


@pytest.fixture(scope="module")
def filled(module_lake: Path) -> Path:
    write_features(GENERATED, DAYS)
    write_behaviours()
    return module_lake


def test_a_row_is_one_hot_of_its_own_ids_and_its_past(filled: Path) -> None:
    frame = read_day_rows(GENERATED, DAYS[:2], history=True)
    sizes = column_sizes(GENERATED, [frame])
    x = encode(GENERATED, frame, sizes).x
    assert x.shape == (frame.num_rows, GENERATED.num_scenarios + sum(sizes.values()))
    starts = dict(zip(sizes, GENERATED.num_scenarios + np.cumsum([0, *sizes.values()])[:-1], strict=True))
    for number, row in enumerate(frame.slice(0, 40).to_pylist()):
        expected = {row["scenario_id"]: 1.0}
        for field in GENERATED.encoded_fields:
            value = row[field.column]
            for id_ in value if isinstance(value, list) else [value]:
                expected[starts[field.column] + id_] = expected.get(starts[field.column] + id_, 0) + 1.0
        past = list(range(1, row["user_key"] % 30 + 1))[: row["hist_end"]][-GENERATED.sequence.max_length :]
        assert row["history"] == past
        expected |= {starts["history"] + item: 1 / len(past) for item in past}
        found = x[number].tocoo()
        assert dict(zip(found.col.tolist(), found.data.tolist(), strict=True)) == pytest.approx(expected)


def test_it_learns_and_stands_beside_the_models(filled: Path) -> None:
    result = measure_day(GENERATED, DAYS[-1], (0.1,), history=True)
    mean = result.aucs[MEAN]
    assert mean is not None and mean > 0.65, "the labels follow the first two fields"
    write_runs(GENERATED, [DAYS[-1]])
    lines = table_lines(collect(GENERATED, [DAYS[-1]]), [result])
    assert len(lines) == 1 + GENERATED.num_scenarios + 2
    assert f"{mean:.4f}" in lines[-2] and "shared_bottom: no sharing" in lines[0]


def test_too_short_a_window_is_an_error(filled: Path) -> None:
    with pytest.raises(TrainingError, match="give a later day"):
        measure_day(GENERATED, DAYS[1], (0.1,), history=False)
