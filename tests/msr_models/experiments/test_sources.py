"""Names of sources are parsed, refused and read."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch

from lake import reader as lake_reader
from lake.arrow_writer import overwrite_partition
from msr_models.data.window import load_window
from msr_models.experiments.lake_split import lake_split
from msr_models.experiments.sources import (
    Lake,
    MovieLensFixed,
    Planted,
    open_split,
    parse_source,
    search_defaults,
    trainer_defaults,
)
from schemas.errors import TrainingError
from schemas.pipeline_spec import TrainerConfig
from tests.support.movielens_files import write_movielens
from tests.support.tiny_lake import tiny_dataset, write_tiny_lake

DAYS = [date(2026, 1, d) for d in (2, 3, 4, 5)]


def test_a_source_is_a_kind_with_settings() -> None:
    assert parse_source("movielens_fixed") == MovieLensFixed()
    assert parse_source("movielens_fixed:scenario=genre,history=0,rows=500") == MovieLensFixed(
        scenario="genre", history=0, rows=500
    )
    assert parse_source("planted:seed=3") == Planted(seed=3)
    assert parse_source("lake:tiny,ds=2026-01-05") == Lake(dataset="tiny", ds=date(2026, 1, 5))
    assert parse_source("lake:tiny,rows=500") == Lake(dataset="tiny", rows=500)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("movielens", r"'movielens' is not known; give movielens_fixed, planted or lake:NAME"),
        ("movielens_fixed:scenario=city", r"option scenario: 'city' .*'age3', 'age7' or 'genre'"),
        ("movielens_fixed:age7", r"'age7' is not KEY=VALUE; give one of scenario"),
        ("planted:rows=few", r"option rows: 'few' "),
        ("planted:colour=red", r"no option 'colour'; allowed: seed"),
        ("lake:", r"names no data set; give lake:NAME"),
        ("lake:tiny,ds=monday", r"option ds: 'monday' "),
        ("lake:tiny,ds=2026-13-40", r"option ds: '2026-13-40' "),
        ("lake:tiny,ds=", r"'ds=' has no value; give KEY=VALUE or leave it out"),
        ("movielens_fixed:path=", r"'path=' has no value"),
    ],
)
def test_a_mistake_names_the_remedy(text: str, why: str) -> None:
    with pytest.raises(TrainingError, match=why):
        parse_source(text)


def test_the_folder_is_not_part_of_the_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_movielens(tmp_path)
    split = open_split(f"movielens_fixed:path={tmp_path},rows=200")
    assert split.name == "movielens_fixed:rows=200" and len(split.train) == 160
    (tmp_path / "ml-1m").mkdir()
    write_movielens(tmp_path / "ml-1m")
    monkeypatch.setenv("MSR_DATA_DIR", str(tmp_path))
    assert open_split("movielens_fixed:rows=200").fingerprint == split.fingerprint


def test_fresh_test_rows_are_of_the_same_world() -> None:
    usual, fresh = (open_split(f"planted:rows=3000,users=5,items=4,test_rows={n}") for n in (0, 4000))
    assert torch.equal(usual.train.slot_ids_NS, fresh.train.slot_ids_NS) and len(fresh.test) == 4000
    assert not torch.equal(usual.test.slot_ids_NS, fresh.test.slot_ids_NS[: len(usual.test)])
    rates = []
    for window in (usual.train, fresh.test):
        cell_N = (window.scenario_N * 5 + window.slot_ids_NS[:, 1]).long()
        rows = torch.bincount(cell_N, minlength=15)
        rates.append((torch.bincount(cell_N, weights=window.label_N.double(), minlength=15) / rows)[rows > 40])
    assert float((rates[0] - rates[1][: len(rates[0])]).abs().max()) < 0.15 and float(rates[0].std()) > 0.15


def test_a_planted_split_has_its_truth_for_the_training_rows() -> None:
    split = open_split("planted:rows=1000,users=20,items=10,seed=4")
    assert (len(split.train), len(split.validation), len(split.test)) == (800, 100, 100)
    assert split.shareable_N is not None and len(split.shareable_N) == 800
    item_N = split.train.slot_ids_NS[:, 1].numpy()
    assert all(len(set(split.shareable_N[item_N == i])) == 1 for i in np.unique(item_N)), "truth is of the item"


def test_a_day_of_the_lake_is_split_as_its_daily_training_is(lake: Path) -> None:
    spec = tiny_dataset()
    write_tiny_lake(spec, DAYS, rows_per_day=60)
    split = lake_split(spec, None, "lake:tiny")
    days = [[w.days[d] for d in np.unique(w.day_N.numpy())] for w in (split.train, split.validation, split.test)]
    assert days == [DAYS[:2], DAYS[2:3], DAYS[3:]]
    whole = load_window(spec, DAYS[:3])
    assert torch.equal(split.train.instance_id_N, whole.instance_id_N[whole.rows_of(DAYS[:2])])
    rows = torch.arange(5)
    assert torch.equal(
        split.validation.batch(rows).hist_ids_BLA, whole.batch(whole.rows_of(DAYS[2:3])[:5]).hist_ids_BLA
    )
    fewer = lake_split(spec, None, "lake:tiny,rows=50", rows=50)
    assert torch.equal(fewer.train.instance_id_N, split.train.instance_id_N[torch.arange(50) * len(split.train) // 50])
    assert len(set(fewer.train.day_N.tolist())) == 2 and len(fewer.validation) == len(split.validation)
    assert len(lake_split(spec, None, "lake:tiny", rows=10**6).train) == len(split.train)
    with pytest.raises(TrainingError, match=r"2026-01-03 lacks some of the 3 days with features before it"):
        lake_split(spec, DAYS[1], "lake:tiny")
    assert split.shareable_N is None, "no truth was written"


def test_the_generators_truth_is_joined_by_instance(lake: Path) -> None:
    spec = tiny_dataset()
    write_tiny_lake(spec, DAYS, rows_per_day=60)
    truth = {}
    for ds in DAYS:
        ids = lake_reader.read_table(spec, "scenario_features", columns=["instance_id"], days=[ds])
        ids = ids["instance_id"].to_numpy()[::-1].copy()
        truth[ds] = {int(i): bool(i % 3 == 0) for i in ids}
        rows = {
            "ds": [str(ds)] * len(ids),
            "instance_id": ids,
            "click_probability": np.zeros(len(ids)),
            "is_shareable": ids % 3 == 0,
        }
        overwrite_partition(pa.table(rows), spec, "generated_truth", {"ds": str(ds)})
    split = lake_split(spec, DAYS[-1], "lake:tiny")
    want = [
        truth[split.train.days[d]][i]
        for d, i in zip(split.train.day_N.tolist(), split.train.instance_id_N.tolist(), strict=True)
    ]
    assert split.shareable_N is not None and split.shareable_N.tolist() == want and 0 < sum(want) < len(want)


def test_defaults_follow_the_source() -> None:
    movielens = trainer_defaults("movielens_fixed")
    assert (movielens.batch_size, movielens.learning_rate, movielens.weight_decay) == (4096, 1e-3, 0.01)
    assert trainer_defaults("planted").weight_decay == TrainerConfig().weight_decay
    assert (movielens.optimiser, movielens.embedding_update) == ("adam", "dense")
    assert trainer_defaults("lake:generated").batch_size == 1024
    assert search_defaults("lake:generated").hidden == search_defaults("planted").hidden
