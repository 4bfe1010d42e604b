"""Boosted trees as a floor: features without the row's own label, and a trial like those of models."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from msr_models.experiments import boosted_trees
from msr_models.experiments.boosted_trees import Design, TreeSettings, train_boosted_trees
from msr_models.experiments.planted_log import planted_split
from msr_models.experiments.sources import open_split
from msr_models.experiments.split import Split
from schemas.errors import TrainingError
from tests.msr_models.experiments.test_runner import make_runner
from tests.support.movielens_files import write_movielens

SMALL = (TreeSettings(learning_rate=0.1, max_leaf_nodes=7, max_iter=30),)


@pytest.fixture(scope="module")
def split() -> Split:
    return planted_split(rows=4_000, users=300, items=20, seed=0, name="planted")


def flipped(split: Split, part: str, rows: list[int]) -> Split:
    window = getattr(split, part)
    label_N = window.label_N.clone()
    label_N[rows] = 1 - label_N[rows]
    return replace(split, **{part: replace(window, label_N=label_N)})


def test_no_row_sees_its_own_label(split: Split) -> None:
    before = Design(split, 1)
    rows = [3]
    after = Design(flipped(split, "train", rows), 1)
    mine, changed = before.of(before.train), after.of(after.train)
    assert np.array_equal(mine[rows], changed[rows])
    fold_N = before.fold_N == before.fold_N[3]
    assert np.array_equal(mine[fold_N], changed[fold_N])
    assert (mine[~fold_N] != changed[~fold_N]).any(), "rows of other folds learn from it"


@pytest.mark.parametrize("part", ["validation", "test"])
def test_labels_of_later_rows_reach_no_feature(split: Split, part: str) -> None:
    other = flipped(split, part, list(range(200)))
    before, after = Design(split, 1), Design(other, 1)
    for name in ("train", "validation", "test"):
        assert np.array_equal(before.of(getattr(split, name)), after.of(getattr(other, name)))


def test_rates_of_later_rows_are_those_of_all_training_rows(split: Split) -> None:
    design = Design(split, 1)
    features_NX = design.of(split.test)
    assert features_NX.shape == (400, 8), "scenario, item; rates of both, of the user here; rows; behaviours"
    train, test = split.train, split.test
    user_N, label_N = train.slot_ids_NS[:, 0].numpy(), train.label_N.numpy()
    for row in range(5):
        user = int(test.slot_ids_NS[row, 0])
        his = label_N[user_N == user]
        want = (his.sum() + 20 * label_N.mean()) / (len(his) + 20)
        assert features_NX[row, 2] == pytest.approx(want, rel=1e-6)
        here = label_N[(user_N == user) & (train.scenario_N.numpy() == int(test.scenario_N[row]))]
        assert features_NX[row, 4] == pytest.approx((here.sum() + 20 * label_N.mean()) / (len(here) + 20), rel=1e-6)
        assert features_NX[row, 5] == len(his)


def test_behaviours_are_counted_and_rated(tmp_path: Path) -> None:
    write_movielens(tmp_path)
    split = open_split(f"movielens_fixed:path={tmp_path},rows=300")
    design = Design(split, 1)
    count_N, rate_N = design.of(split.test)[:, -2:].T
    batch = split.test.batch(torch.arange(len(split.test)))
    items_NL, item_f = batch.hist_ids_BLA[:, :, 0].numpy(), split.train.layout.item_field
    assert np.array_equal(count_N, (items_NL > 0).sum(1)) and count_N.max() > 0
    label_N = split.train.label_N.numpy()
    known_N = split.train.slot_ids_NS[:, split.train.layout.slot_starts[item_f]].numpy()
    row = int(count_N.argmax())
    rates = []
    for item in items_NL[row][items_NL[row] > 0]:
        own = label_N[known_N == item]
        rates.append((own.sum() + 20 * label_N.mean()) / (len(own) + 20))
    assert rate_N[row] == pytest.approx(np.mean(rates), rel=1e-6)


def test_a_floor_is_a_trial(split: Split, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runner = make_runner(split, tmp_path)
    trial = train_boosted_trees(runner, 1, SMALL)
    probs_N = trial.array("test_probs")
    assert probs_N.shape == (400,) and ((probs_N > 0) & (probs_N < 1)).all()
    assert trial.record["test"]["all"]["auc"] > 0.65, "the log is learnable"
    assert trial.record["parameters"] > 30 and trial.record["settings_chosen"]["max_leaf_nodes"] == 7
    again = train_boosted_trees(make_runner(split, tmp_path / "again"), 1, SMALL)
    assert np.array_equal(again.array("test_probs"), probs_N)
    assert not np.array_equal(train_boosted_trees(runner, 2, SMALL).array("test_probs"), probs_N)
    monkeypatch.setattr(boosted_trees, "_made", lambda *_: pytest.fail("made again"))
    assert train_boosted_trees(runner, 1, SMALL).record == trial.record


def test_validation_chooses_the_settings(split: Split, tmp_path: Path) -> None:
    stump = TreeSettings(learning_rate=1e-4, max_leaf_nodes=2, max_iter=1)
    for grid in ([stump, *SMALL], [*SMALL, stump]):
        trial = train_boosted_trees(make_runner(split, tmp_path), 1, grid)
        assert trial.record["settings_chosen"]["max_iter"] == 30
    with pytest.raises(TrainingError, match="no settings to try"):
        train_boosted_trees(make_runner(split, tmp_path), 1, [])


def test_ids_that_later_days_added_are_unknown(split: Split) -> None:
    design, first = Design(split, 1), split.test.slot_ids_NS.clone()
    first[0] = torch.tensor([301 + 5, 21 + 5], dtype=torch.int32)  # users and items end at 300 and 20
    features_NX = design.of(replace(split.test, slot_ids_NS=first))
    mean = split.train.label_N.mean().item()
    assert features_NX[0, 1] == 0 and features_NX[0, 2:5] == pytest.approx([mean] * 3) and features_NX[0, 5] == 0
