"""Dense values on their way from the table into batches: in memory, through buckets, in a part of the fields."""

from __future__ import annotations

import dataclasses
from datetime import date
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
import torch

from lake.arrow_writer import overwrite_partition
from msr_models.data.memory import window_bytes
from msr_models.data.source import ResidentRows
from msr_models.data.streamed import open_streamed_rows
from msr_models.data.window import Window, load_window
from msr_models.models.logistic_regression import LogisticRegression
from msr_models.models.registry import build_model
from msr_models.training.regression import Design, fit_path
from msr_models.training.trainer import train
from schemas.dataset_spec import DatasetSpec
from schemas.errors import TrainingError
from schemas.pipeline_spec import TrainerConfig
from tests.support.tiny_lake import MAX_TAGS, NUM_PRICES, tiny_dataset, tiny_day, write_tiny_lake

DAYS = [date(2026, 1, 2), date(2026, 1, 3)]
ROWS = 150


def dense_dataset(name: str = "tiny") -> DatasetSpec:
    binned = {"source": "p", "kind": "numeric", "binning": {"quantiles": NUM_PRICES}}
    fields = [
        {"name": "user", "source": "u"},
        {"name": "item", "source": "i"},
        {"name": "tags", "source": "g", "kind": "multi_valued", "max_values": MAX_TAGS},
        {"name": "price", **binned, "dense": {"transform": "log1p"}},
    ]
    return tiny_dataset(name, fields=fields)


@pytest.fixture(scope="module")
def dataset(module_lake: Path) -> DatasetSpec:
    write_tiny_lake(dense_dataset(), DAYS, rows_per_day=ROWS)
    return dense_dataset()


@pytest.fixture(scope="module")
def window(dataset: DatasetSpec) -> Window:
    return load_window(dataset, DAYS)


def test_a_window_has_the_tables_values_row_by_row(dataset: DatasetSpec, window: Window) -> None:
    batch = window.batch(torch.arange(len(window)))
    assert batch.dense_BZ is not None and batch.dense_BZ.dtype == torch.float32
    want = {int(r["instance_id"]): r["d_price"] for ds in DAYS for r in tiny_day(dataset, ds, ROWS)[0].to_pylist()}
    assert [want[i] for i in window.instance_id_N.tolist()] == batch.dense_BZ[:, 0].tolist()
    part = window.batch(torch.tensor([7, 3])).dense_BZ
    assert part is not None and torch.equal(part, batch.dense_BZ[[7, 3]])


def test_buckets_hold_the_same_rows(dataset: DatasetSpec, window: Window, tmp_path: Path) -> None:
    with open_streamed_rows(dataset, DAYS, seed=1, folder=tmp_path, bucket_rows=40) as rows:
        assert rows.facts.fingerprint == window.fingerprint
        batches = list(rows.batches(32, 1, 1))
    whole = window.batch(torch.arange(len(window)))
    made = [
        sorted(torch.cat([b.slot_ids_BS.double(), b.dense_BZ.double()], dim=1).tolist())
        for b in (whole, *batches)
        if b.dense_BZ is not None
    ]
    assert len(made) == 1 + len(batches) and made[0] == sorted(row for part in made[1:] for row in part)


def test_values_and_further_labels_lie_side_by_side_in_buckets(lake: Path, tmp_path: Path) -> None:
    columns = {"event_time": {"column": "t"}, "user": "u", "item": "i", "label": {"column": "y"}}
    further = {"purchase": {"column": "bought"}, "share": {"column": "shared"}}
    both = tiny_dataset(
        fields=[f.model_dump(mode="json") for f in dense_dataset().fields],
        columns=columns | {"further_labels": further},
    )
    write_tiny_lake(both, DAYS, rows_per_day=ROWS)
    window = load_window(both, DAYS)
    with open_streamed_rows(both, DAYS, seed=1, folder=tmp_path, bucket_rows=40) as rows:
        streamed = [(b.dense_BZ, b.further_BJ) for b in rows.batches(32, 1, 1)]
    whole = window.batch(torch.arange(len(window)))
    assert whole.dense_BZ is not None and whole.further_BJ is not None
    wanted = torch.cat([whole.dense_BZ, whole.further_BJ], dim=1).tolist()
    found = [torch.cat([d, f], dim=1).tolist() for d, f in streamed if d is not None and f is not None]
    assert sorted(wanted) == sorted(row for part in found for row in part)


def test_the_fingerprint_and_the_memory_follow_the_values(dataset: DatasetSpec, window: Window, lake: Path) -> None:
    write_tiny_lake(dataset, DAYS, rows_per_day=ROWS)
    assert load_window(dataset, DAYS).fingerprint == window.fingerprint
    features, _ = tiny_day(dataset, DAYS[0], ROWS)
    at = features.column_names.index("d_price")
    bent = pc.add(features["d_price"], pa.scalar(0.25, pa.float32()))
    overwrite_partition(features.set_column(at, "d_price", bent), dataset, "scenario_features", {"ds": str(DAYS[0])})
    assert load_window(dataset, DAYS).fingerprint != window.fingerprint
    without = dataset.model_copy(update={"fields": tuple(f.model_copy(update={"dense": None}) for f in dataset.fields)})
    assert window_bytes(dataset, DAYS) - window_bytes(without, DAYS) == pytest.approx(1.3 * 4 * len(window), abs=1)


def test_a_value_that_is_no_number_is_one_error(dataset: DatasetSpec, lake: Path) -> None:
    write_tiny_lake(dataset, DAYS, rows_per_day=ROWS)
    features, _ = tiny_day(dataset, DAYS[0], ROWS)
    at, broken = features.column_names.index("d_price"), np.array(features["d_price"]).copy()
    broken[5] = np.nan
    overwrite_partition(
        features.set_column(at, "d_price", pa.array(broken)), dataset, "scenario_features", {"ds": str(DAYS[0])}
    )
    with pytest.raises(TrainingError, match=r"scenario_features, d_price: a value is not a finite number; rebuild"):
        load_window(dataset, DAYS)


def test_a_part_of_the_fields_has_its_own_values(window: Window) -> None:
    assert window.with_fields(("user", "item")).dense_NZ is None
    part = window.with_fields(("price", "item"))
    assert part.layout.dense_names == ("price",) and part.dense_NZ is not None and window.dense_NZ is not None
    assert torch.equal(part.dense_NZ, window.dense_NZ)


def test_the_linear_fit_finds_the_weight_of_a_value(window: Window) -> None:
    """Labels that follow the value alone: the design has a column for it, and the fit nearly all of its weight."""
    assert window.dense_NZ is not None
    generator = torch.Generator().manual_seed(0)
    label_N = (torch.rand(len(window), generator=generator) < torch.sigmoid(2.0 * window.dense_NZ[:, 0])).float()
    planted = dataclasses.replace(window, label_N=label_N)
    rows = ResidentRows(planted, torch.arange(len(planted)))
    model = build_model("logistic_regression", {}, window.layout, window.num_scenarios, 1)
    assert isinstance(model, LogisticRegression)
    design = Design.of(model.inputs, model.base_logit_K, rows)
    column = design.x[:, window.layout.total_rows].toarray().ravel()
    assert np.array_equal(column.astype(np.float32), window.dense_NZ[:, 0].numpy())
    fit = fit_path(model.inputs, model.base_logit_K, rows, rows, TrainerConfig())
    model.adopt(fit.weight_R, fit.bias_K)
    assert model.inputs.table.dense_ZD is not None and 0.8 < float(model.inputs.table.dense_ZD.detach()) < 3.0
    batch = planted.batch(rows.rows)
    want_B = design.x @ torch.cat([fit.weight_R, fit.bias_K]).double().numpy()
    np.testing.assert_allclose(model(batch).detach().numpy(), want_B, atol=1e-4)


@pytest.mark.parametrize("options", [{"wide": True}, {"sequence_pooling": "din"}])
def test_training_reads_the_values(options: dict[str, object], window: Window) -> None:
    rows = ResidentRows(window, torch.arange(len(window)))
    model = build_model("shared_bottom", options, window.layout, window.num_scenarios, 1)
    result = train(model, rows, rows, TrainerConfig(batch_size=64, max_epochs=1, learning_rate=0.01))
    assert result.epochs == 1
    moved = window.batch(rows.rows)
    assert moved.dense_BZ is not None
    other = dataclasses.replace(moved, dense_BZ=moved.dense_BZ + 1)
    assert not torch.equal(model(moved), model(other))
