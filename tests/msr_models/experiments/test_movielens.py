"""The fixed split against a slow reading of the same files, row by row."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from msr_models.experiments.movielens import movielens_split
from schemas.errors import SourceError, TrainingError
from tests.support.movielens_files import AGES, Rating, write_movielens


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_movielens(tmp_path)
    return tmp_path


def _slow(ratings: list[Rating]) -> list[Rating]:
    return [r for _, r in sorted(enumerate(ratings), key=lambda pair: (pair[1].second, pair[0]))]


def test_rows_are_in_time_order_and_split_80_10_10(folder: Path) -> None:
    ratings = _slow(write_movielens(folder))
    split = movielens_split(folder, name="x")
    assert (len(split.train), len(split.validation), len(split.test)) == (320, 40, 40)
    labels = torch.cat([w.label_N for w in (split.train, split.validation, split.test)])
    assert labels.tolist() == [float(r.stars >= 4) for r in ratings]
    assert torch.cat([w.instance_id_N for w in (split.train, split.validation, split.test)]).tolist() == list(
        range(400)
    )


def test_a_value_has_an_id_of_its_own_if_a_training_row_has_it_and_0_otherwise(folder: Path) -> None:
    ratings = _slow(write_movielens(folder))
    split = movielens_split(folder, name="x")
    ids = torch.cat([w.slot_ids_NS for w in (split.train, split.validation, split.test)]).numpy()
    columns: dict[int, list[object]] = {
        0: [r.user for r in ratings],
        1: [r.movie for r in ratings],
        3: [r.occupation for r in ratings],
        4: [r.zip for r in ratings],
        5: [r.genres.split(" ")[0] for r in ratings],
    }
    for field, raw in columns.items():
        known = set(raw[:320])
        seen = {(value, int(i)) for value, i in zip(raw, ids[:, field], strict=True) if value in known}
        assert len(seen) == len(known) == len({i for _, i in seen}), "one id per value"
        assert all(ids[n, field] == 0 for n, value in enumerate(raw) if value not in known)
        assert split.train.layout.num_rows[field] == len(known) + 1
        assert {i for _, i in seen} == set(range(1, len(known) + 1))
    assert (ids[320:, 0] == 0).any(), "the files hold a user who comes late"


@pytest.mark.parametrize("history", [1, 5])
def test_behaviours_are_the_last_positives_of_earlier_seconds(folder: Path, history: int) -> None:
    ratings = _slow(write_movielens(folder))
    split = movielens_split(folder, history=history, name="x")
    windows = (split.train, split.validation, split.test)
    ids = torch.cat([w.slot_ids_NS for w in windows])[:, 1].tolist()
    got = torch.cat([w.batch(torch.arange(len(w))).hist_ids_BLA[:, :, 0] for w in windows]).tolist()
    ties = 0
    for n, rating in enumerate(ratings):
        own = [
            (ratings[m].second, ids[m]) for m in range(400) if ratings[m].user == rating.user and ratings[m].stars >= 4
        ]
        want = [i for second, i in own if second < rating.second][-history:]
        ties += any(second == rating.second for second, _ in own)
        assert got[n] == [0] * (history - len(want)) + want
    assert ties > 100, "the files hold ratings of one second"


def test_without_history_rows_have_no_behaviours(folder: Path) -> None:
    split = movielens_split(folder, history=0, name="x")
    assert split.train.layout.hist_length == 0
    assert split.train.batch(torch.arange(3)).hist_ids_BLA.shape == (3, 0, 1)


def test_scenarios_are_age_buckets_ages_or_genres(folder: Path) -> None:
    ratings = _slow(write_movielens(folder))
    three = movielens_split(folder, name="x")
    assert three.scenario_names == ("under_25", "from_25_to_34", "from_35")
    bucket = {1: 0, 18: 0, 25: 1, 35: 2, 45: 2, 50: 2, 56: 2}
    assert three.train.scenario_N.tolist() == [bucket[r.age] for r in ratings[:320]]
    seven = movielens_split(folder, scenario="age7", name="x")
    assert seven.scenario_names == tuple(f"age_{age}" for age in AGES)
    assert seven.train.scenario_N.tolist() == [AGES.index(r.age) for r in ratings[:320]]
    genre = movielens_split(folder, scenario="genre", name="x")
    kept = [r for r in ratings if r.genres.split(" ")[0] != "Western"]
    assert len(genre.train) + len(genre.validation) + len(genre.test) == len(kept) < 400
    names = [genre.scenario_names[k] for k in genre.train.scenario_N.tolist()]
    assert names == [r.genres.split(" ")[0] for r in kept[: len(names)]]


def test_a_sample_is_spread_over_time_and_changes_the_fingerprint(folder: Path) -> None:
    whole, sample = movielens_split(folder, name="x"), movielens_split(folder, rows=100, name="x")
    assert (len(sample.train), len(sample.test)) == (80, 10)
    assert sample.test.days[int(sample.test.day_N[-1])] == whole.test.days[int(whole.test.day_N[-1])]
    assert len({whole.fingerprint, sample.fingerprint, movielens_split(folder, history=3, name="x").fingerprint}) == 3
    assert whole.fingerprint == movielens_split(folder, name="another name").fingerprint


def test_broken_files_name_the_remedy(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"ml-1m\.inter cannot be read .*scripts/get_movielens\.py"):
        movielens_split(tmp_path / "nowhere", name="x")
    users = (folder / "ml-1m.user").read_text(encoding="utf-8")
    (folder / "ml-1m.user").write_text(users.replace("zip_code:token", "post:token"), encoding="utf-8")
    with pytest.raises(SourceError, match=r"ml-1m\.user lacks columns \['zip_code'\]"):
        movielens_split(folder, name="x")
    (folder / "ml-1m.user").write_text("\n".join(users.splitlines()[:-1]), encoding="utf-8")
    with pytest.raises(SourceError, match=r"ml-1m\.user lacks '1m_\d+' of ml-1m\.inter"):
        movielens_split(folder, name="x")


def test_a_split_without_test_rows_is_refused(folder: Path) -> None:
    with pytest.raises(TrainingError, match="no validation rows"):
        movielens_split(folder, rows=5, name="x")


@pytest.mark.real
def test_the_real_files_have_the_published_sizes() -> None:
    split = movielens_split(Path("data/ml-1m"), name="x")
    assert (len(split.train), len(split.validation), len(split.test)) == (800_167, 100_021, 100_021)
    rows = np.bincount(np.concatenate([w.scenario_N for w in (split.train, split.validation, split.test)]))
    assert rows.tolist() == [210_747, 395_556, 393_906]
