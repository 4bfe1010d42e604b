"""Training data in memory and through buckets on disk: order, resume, shards, the same rows, tidy ends."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from datetime import date
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import torch
from torch import Tensor

from benchmarks.loader_lake import loader_dataset, loader_days, write_lake
from benchmarks.mixing import mixing
from lake.arrow_writer import overwrite_partition
from msr_models.data.batch import Batch
from msr_models.data.order import batch_length, epoch_batches, num_batches
from msr_models.data.source import ResidentRows, TrainingData
from msr_models.data.streamed import StreamedRows, open_streamed_rows
from msr_models.data.window import Window, load_window
from schemas.dataset_spec import DatasetSpec
from schemas.errors import SharedSetError, TrainingError
from tests.support.tiny_lake import WITH_ATTRIBUTE, tiny_dataset, tiny_day, write_masks, write_tiny_lake

DAYS = [date(2026, 1, 2), date(2026, 1, 3)]
ROWS = 150
ALL_ROWS = ROWS * len(DAYS)
SIZE = 32  # 9 batches and one of 12 rows
Open = Callable[..., StreamedRows]


@pytest.fixture(scope="module")
def dataset(module_lake: Path) -> DatasetSpec:
    spec = tiny_dataset(sequence=WITH_ATTRIBUTE)
    write_tiny_lake(spec, DAYS, rows_per_day=ROWS)
    write_masks(spec, "set", DAYS, rows_per_day=ROWS)
    return spec


@pytest.fixture(scope="module")
def window(dataset: DatasetSpec) -> Window:
    return load_window(dataset, DAYS, shared_set_id="set").with_ratio(0.3)


@pytest.fixture
def streamed(dataset: DatasetSpec, tmp_path: Path) -> Iterator[Open]:
    """Opens buckets of about 40 rows: 8 of them, each of about one batch."""
    with ExitStack() as stack:
        defaults: dict[str, Any] = {"seed": 1, "shared_set_id": "set", "folder": tmp_path, "bucket_rows": 40}
        yield lambda spec=dataset, **options: stack.enter_context(
            open_streamed_rows(spec, DAYS, **(defaults | options))
        )


@pytest.fixture(params=["resident", "streamed"])
def data(request: pytest.FixtureRequest, window: Window, streamed: Open) -> TrainingData:
    if request.param == "resident":
        return ResidentRows(window, torch.arange(len(window)))
    return streamed().with_ratio(0.3)


def columns(batches: Sequence[Batch] | Iterator[Batch]) -> list[Tensor]:
    """Every column of all batches, one behind the other."""
    taken = list(batches)
    names = ("slot_ids_BS", "hist_ids_BLA", "hist_scenario_BL", "scenario_B", "label_B", "shared_B")
    return [torch.cat([getattr(b, name) for b in taken]) for name in names]


def equal(left: Sequence[Tensor], right: Sequence[Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(left, right, strict=True))


def in_one_order(batches: Iterator[Batch]) -> Tensor:
    """All rows with all columns, sorted: a set of rows that can be compared."""
    wide = torch.cat([c.double().reshape(len(c), -1) for c in columns(batches)], dim=1)
    return torch.tensor(sorted(wide.tolist()))


def test_an_epoch_is_every_row_once_with_its_behaviours(data: TrainingData, window: Window) -> None:
    whole = in_one_order(iter([window.batch(torch.arange(len(window)))]))
    assert 0 < int(whole[:, -1].sum()) < ALL_ROWS and data.num_rows == ALL_ROWS and data.num_scenarios == 3
    for epoch in (1, 2):
        assert torch.equal(in_one_order(data.batches(SIZE, 1, epoch)), whole)


def test_batches_are_full_but_the_last(data: TrainingData) -> None:
    lengths = [len(b) for b in data.batches(SIZE, 1, 1)]
    assert lengths == [SIZE] * 9 + [12] and len(lengths) == num_batches(ALL_ROWS, SIZE)
    assert lengths == [batch_length(ALL_ROWS, SIZE, i) for i in range(10)]
    assert [len(b) for b in data.batches(ALL_ROWS + 5, 1, 1)] == [ALL_ROWS]


def test_a_resume_at_every_position_gives_the_same_bits(data: TrainingData) -> None:
    batches = list(data.batches(SIZE, 3, 2))
    for first in range(len(batches)):
        resumed = list(data.batches(SIZE, 3, 2, first_batch=first))
        assert [len(b) for b in resumed] == [len(b) for b in batches[first:]]
        assert equal(columns(resumed), columns(batches[first:]))
    assert list(data.batches(SIZE, 3, 2, first_batch=len(batches))) == []


def test_seed_and_epoch_decide_the_order(data: TrainingData) -> None:
    first = columns(data.batches(SIZE, 1, 1))
    assert equal(columns(data.batches(SIZE, 1, 1)), first)
    assert not equal(columns(data.batches(SIZE, 1, 2)), first) and not equal(columns(data.batches(SIZE, 2, 1)), first)


@pytest.mark.parametrize("world", [2, 5, 13])
def test_ranks_take_each_batch_apart(data: TrainingData, world: int) -> None:
    parts = [list(data.batches(SIZE, 1, 1, rank=rank, world=world)) for rank in range(world)]
    for i, batch in enumerate(data.batches(SIZE, 1, 1)):
        back = [torch.empty_like(c) for c in columns([batch])]
        for rank in range(world):
            for whole, part in zip(back, columns([parts[rank][i]]), strict=True):
                whole[rank::world] = part
        assert equal(back, columns([batch]))
    assert {len(part) for part in parts[0:]} == {num_batches(ALL_ROWS, SIZE)}
    assert (min(len(part[-1]) for part in parts) == 0) == (world == 13)  # 12 rows: the last rank's tail is empty


def test_the_order_in_memory_is_that_of_epoch_batches(window: Window) -> None:
    rows = torch.arange(len(window))[::3]
    expected = [window.batch(part) for part in epoch_batches(rows, SIZE, 4, 2)]
    assert equal(columns(ResidentRows(window, rows).batches(SIZE, 4, 2)), columns(expected))
    resumed = list(epoch_batches(rows, 8, 4, 2, first_batch=5, rank=1, world=3))
    assert [r.tolist() for r in resumed] == [b[1::3].tolist() for b in list(epoch_batches(rows, 8, 4, 2))[5:]]
    generator = torch.Generator().manual_seed(4 * 1_000_003 + 2)
    assert torch.equal(torch.cat(list(epoch_batches(rows, SIZE, 4, 2))), rows[torch.randperm(100, generator=generator)])


def test_files_do_not_decide_the_order(
    dataset: DatasetSpec, streamed: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = streamed()
    monkeypatch.setenv("MSR_LAKE_ROOT", str(tmp_path / "other"))
    write_tiny_lake(dataset, DAYS[::-1], rows_per_day=ROWS, backwards=True)
    write_masks(dataset, "set", DAYS, rows_per_day=ROWS)
    there = streamed()
    assert equal(columns(here.batches(SIZE, 1, 1)), columns(there.batches(SIZE, 1, 1)))
    assert here.facts.fingerprint == there.facts.fingerprint


def test_pieces_do_not_decide_the_order(streamed: Open, monkeypatch: pytest.MonkeyPatch, dataset: DatasetSpec) -> None:
    whole = streamed()
    monkeypatch.setattr("lake.reader.STREAM_ROWS", 7)
    pieces = streamed()
    assert equal(columns(whole.batches(SIZE, 1, 1)), columns(pieces.batches(SIZE, 1, 1)))
    assert load_window(dataset, DAYS).fingerprint == whole.facts.fingerprint


def test_facts_are_those_of_the_window(streamed: Open, window: Window) -> None:
    facts = streamed().facts
    assert (facts.fingerprint, facts.mask_fingerprint) == (window.fingerprint, window.mask_fingerprint)
    assert (facts.layout, facts.vocabulary_version) == (window.layout, window.vocabulary_version)


def test_without_a_ratio_nothing_is_shared(streamed: Open, window: Window) -> None:
    rows = streamed()
    assert not columns(rows.batches(SIZE, 1, 1))[-1].any()
    for ratio in (0.0, 0.5, 1.0):
        want = int(window.with_ratio(ratio).shared_N.sum())
        assert int(columns(rows.with_ratio(ratio).batches(SIZE, 1, 1))[-1].sum()) == want
    assert not columns(streamed(shared_set_id=None).with_ratio(1.0).batches(SIZE, 1, 1))[-1].any()


def test_buckets_are_removed_at_the_end_and_after_an_error(streamed: Open, tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="mid-epoch"), streamed() as rows:
        assert any(tmp_path.iterdir())
        next(rows.batches(SIZE, 1, 1))
        raise RuntimeError("mid-epoch")
    assert not any(tmp_path.iterdir())


def test_buckets_are_removed_where_reading_fails(streamed: Open, lake: Path, tmp_path: Path) -> None:
    spec = tiny_dataset(sequence=WITH_ATTRIBUTE)
    write_tiny_lake(spec, DAYS, rows_per_day=ROWS)
    write_masks(spec, "set", DAYS[:1], rows_per_day=ROWS)
    with pytest.raises(SharedSetError, match=rf"2026-01-03: {ROWS} of {ROWS}"):
        streamed()
    write_masks(spec, "set", DAYS[1:], rows_per_day=ROWS - 1)  # other rows, but most of the ids
    with pytest.raises(SharedSetError, match=rf"2026-01-03: 1 of {ROWS}"):
        streamed()
    assert not any(p.name.startswith("msr-rows") for p in tmp_path.iterdir())


def test_an_instance_twice_in_a_day_is_an_error(streamed: Open, lake: Path) -> None:
    spec = tiny_dataset(sequence=WITH_ATTRIBUTE)
    write_tiny_lake(spec, DAYS, rows_per_day=ROWS)
    features, _ = tiny_day(spec, DAYS[1], ROWS)
    overwrite_partition(
        pa.concat_tables([features, features.slice(3, 2)]), spec, "scenario_features", {"ds": str(DAYS[1])}
    )
    for read in (lambda: load_window(spec, DAYS), lambda: streamed(shared_set_id=None)):
        with pytest.raises(TrainingError, match=r"2026-01-03: instance_id .* more than once \(2 rows too many\)"):
            read()


def test_labels_of_one_class_are_an_error(streamed: Open, lake: Path) -> None:
    spec = tiny_dataset(sequence=WITH_ATTRIBUTE)
    write_tiny_lake(spec, DAYS, rows_per_day=ROWS)
    streamed(shared_set_id=None).require_both_labels()
    for ds in DAYS:
        features, _ = tiny_day(spec, ds, ROWS)
        ones = pa.array([1] * ROWS, pa.int32())
        features = features.set_column(features.column_names.index("label"), "label", ones)
        overwrite_partition(features, spec, "scenario_features", {"ds": str(ds)})
    with pytest.raises(TrainingError, match=r"all 300 labels of tiny in 2026-01-02 .. 2026-01-03 are 1"):
        streamed(shared_set_id=None).require_both_labels()


def test_too_little_memory_for_two_buckets(streamed: Open, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"two buckets and 0\.01 GB are available.*training\.memory_gb"):
        streamed(memory_gb=0.01)
    assert not any(tmp_path.iterdir())


def test_shuffles_mix_and_permuted_blocks_do_not(lake: Path, tmp_path: Path) -> None:
    spec, days = loader_dataset("mix", 1), loader_days(4)
    write_lake(spec, days, rows_per_day=5_120, behaviours=0)
    slot = [f.name for f in spec.encoded_fields].index("position")  # rises from file to file and within them

    def measured(data: TrainingData, epoch: int) -> float:
        return mixing(b.slot_ids_BS[:, slot] for b in data.batches(64, 1, epoch))

    window = load_window(spec, days)
    resident = ResidentRows(window, torch.arange(len(window)))
    # 320 batches: the ratio scatters by sqrt(2 / 320) = 0.08 around 1.
    assert 0.75 < measured(resident, 1) < 1.25
    with open_streamed_rows(spec, days, seed=1, folder=tmp_path, bucket_rows=3_000) as streamed:
        assert len(streamed.spill.rows_P) == 7
        for epoch in (1, 2):
            assert 0.75 < measured(streamed, epoch) < 1.25

    place_N = window.slot_ids_NS[:, slot].sort().values
    generator = torch.Generator().manual_seed(0)

    def permuted(blocks: Sequence[Tensor]) -> Tensor:
        return torch.cat([blocks[i] for i in torch.randperm(len(blocks), generator=generator).tolist()])

    assert mixing(permuted(place_N.split(64)).split(64)) > 60
    # Blocks in a random order and a shuffle within buffers of four of them is not enough either.
    buffered = torch.cat(
        [part[torch.randperm(len(part), generator=generator)] for part in permuted(place_N.split(64)).split(256)]
    )
    assert mixing(buffered.split(64)) > 10
