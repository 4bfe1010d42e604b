"""Labels beside the main one come with every row, in memory and through buckets on disk."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date
from itertools import product
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch

from lake import reader as lake_reader
from lake.arrow_writer import overwrite_partition
from msr_models.data.batch import Batch
from msr_models.data.further import count_further
from msr_models.data.source import ResidentRows
from msr_models.data.streamed import StreamedRows, open_streamed_rows
from msr_models.data.window import Window, load_window
from schemas.dataset_spec import DatasetSpec
from tests.support.tiny_lake import tiny_dataset, write_tiny_lake

DAYS = [date(2026, 1, 2), date(2026, 1, 3)]
COLUMNS = tiny_dataset().columns.model_dump()
TWO = {"purchase": {"column": "b"}, "share": {"column": "c"}}


@pytest.fixture(scope="module")
def dataset(module_lake: Path) -> DatasetSpec:
    dataset = tiny_dataset(columns=COLUMNS | {"further_labels": TWO})
    write_tiny_lake(dataset, DAYS, rows_per_day=200)
    return dataset


@pytest.fixture(scope="module")
def window(dataset: DatasetSpec) -> Window:
    return load_window(dataset, DAYS)


@pytest.fixture
def streamed(dataset: DatasetSpec, tmp_path: Path) -> Iterator[StreamedRows]:
    with open_streamed_rows(dataset, DAYS, seed=3, folder=tmp_path, bucket_rows=64) as rows:
        yield rows


def test_a_window_has_the_labels_of_the_table(dataset: DatasetSpec, window: Window) -> None:
    table = lake_reader.read_table(dataset, "scenario_features").sort_by(
        [("ds", "ascending"), ("instance_id", "ascending")]
    )
    assert window.further_labels == ("purchase", "share") and window.further_NJ is not None
    for j, name in enumerate(window.further_labels):
        expected = table[f"label_{name}"].to_numpy()
        assert 0 < expected.sum() < len(expected)
        assert np.array_equal(window.labels(j).numpy(), expected)
        further_BJ = window.batch(torch.arange(50)).further_BJ
        assert further_BJ is not None and np.array_equal(further_BJ[:, j].numpy(), expected[:50])
    assert torch.equal(window.labels(), window.label_N)


def test_streamed_rows_have_those_of_the_window(window: Window, streamed: StreamedRows) -> None:
    def rows(batches: Iterator[Batch]) -> torch.Tensor:
        parts = []
        for batch in batches:
            assert batch.further_BJ is not None
            columns = [batch.slot_ids_BS, batch.scenario_B[:, None], batch.label_B[:, None], batch.further_BJ]
            parts.append(torch.cat(columns, 1))
        return torch.cat(parts).double()

    mine = rows(streamed.batches(50, 3, 1))
    whole = rows(ResidentRows(window, torch.arange(len(window))).batches(50, 3, 1))
    assert mine.shape == (400, whole.shape[1])
    assert sorted(mine.tolist()) == sorted(whole.tolist())
    assert streamed.facts.fingerprint == window.fingerprint


def test_counts_are_those_of_a_loop(window: Window, streamed: StreamedRows) -> None:
    counts_J2K = window.further_counts()
    assert window.further_NJ is not None
    for j in range(2):
        for k in range(3):
            has = [n for n in range(len(window)) if window.scenario_N[n] == k and window.further_NJ[n, j] == 1]
            without = [n for n in has if window.label_N[n] == 0]
            assert counts_J2K[j, :, k].tolist() == [len(has), len(without)]
    assert torch.equal(streamed.further_counts(), counts_J2K)
    some = torch.arange(0, 400, 3)
    assert window.further_counts(some)[:, 0].sum() == window.further_NJ[some].sum()


def test_the_fingerprint_sees_a_further_label(dataset: DatasetSpec, lake: Path) -> None:
    write_tiny_lake(dataset, DAYS, rows_per_day=200)
    before = load_window(dataset, DAYS).fingerprint
    rows = lake_reader.read_table(dataset, "scenario_features", days=[DAYS[0]])
    place = rows.column_names.index("label_share")
    turned = pa.array(1 - rows["label_share"].to_numpy())
    overwrite_partition(
        rows.set_column(place, "label_share", turned), dataset, "scenario_features", {"ds": str(DAYS[0])}
    )
    assert load_window(dataset, DAYS).fingerprint != before


def test_a_window_of_one_label_knows_no_others(lake: Path, window: Window) -> None:
    dataset = tiny_dataset()
    write_tiny_lake(dataset, DAYS, rows_per_day=200)
    plain = load_window(dataset, DAYS)
    assert plain.further_NJ is None and plain.batch(torch.arange(3)).further_BJ is None
    assert plain.further_counts().shape == (0, 2, 3)
    assert torch.equal(plain.label_N, window.label_N) and plain.fingerprint != window.fingerprint


def test_rows_without_the_main_label_are_told_apart() -> None:
    counts = count_further(
        torch.tensor([0, 0, 1]), torch.tensor([1.0, 0.0, 0.0]), torch.tensor([[1.0], [1.0], [0.0]]), 2
    )
    assert counts.tolist() == [[[2, 0], [1, 0]]]


def test_weighted_rows_are_summed_alike_in_memory_and_streamed(lake: Path) -> None:
    dataset = tiny_dataset(columns=COLUMNS | {"further_labels": TWO, "weight": "w"})
    write_tiny_lake(dataset, DAYS, rows_per_day=200)
    window = load_window(dataset, DAYS)
    assert window.weight_N is not None and window.further_NJ is not None
    sums_J2K = window.further_counts()
    for j, k in product(range(2), range(3)):
        is_here_N = (window.scenario_N == k) & (window.further_NJ[:, j] == 1)
        kinds = (is_here_N, is_here_N & (window.label_N == 0))
        expected = [float(window.weight_N[kind_N].double().sum()) for kind_N in kinds]
        assert sums_J2K[j, :, k].tolist() == pytest.approx(expected, rel=1e-12)
    with open_streamed_rows(dataset, DAYS, bucket_rows=100, seed=1) as streamed:
        assert torch.equal(streamed.further_counts(), sums_J2K)
        batch = next(iter(streamed.batches(50, 3, 1)))
        assert batch.weight_B is not None and batch.further_BJ is not None
        assert batch.weight_B.shape == (50,) and set(batch.weight_B.tolist()) <= set(window.weight_N.tolist())
        assert set(batch.further_BJ.flatten().tolist()) == {0.0, 1.0}
