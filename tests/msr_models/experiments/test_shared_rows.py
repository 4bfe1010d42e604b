"""What shared rows are like, against loops over rows."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from msr_models.data.layout import FieldLayout
from msr_models.experiments.planted_log import planted_split
from msr_models.experiments.shared_rows import between_share, features_seen_elsewhere, project, seen_elsewhere
from schemas.errors import TrainingError
from tests.msr_models.experiments.test_runner import make_runner

LAYOUT = FieldLayout(names=("a", "tags"), num_slots=(1, 3), num_rows=(40, 60), item_field=0, hist_length=1)


def test_a_feature_counts_where_a_row_of_another_scenario_has_it() -> None:
    rng = np.random.default_rng(0)
    window = planted_split(rows=100, users=5, items=4, seed=0, name="x").train
    ids = np.stack([rng.integers(0, 40, 80), *rng.integers(0, 60, (3, 80))], axis=1).astype(np.int32)
    window = replace(window, layout=LAYOUT, slot_ids_NS=torch.from_numpy(ids))
    scenario = window.scenario_N.numpy()
    found, counts = features_seen_elsewhere(window)
    where = {0: (0, 1), 1: (1, 4)}
    for n in range(80):
        for field, (start, end) in where.items():
            mine = [i for i in ids[n, start:end] if i > 0]
            others = {i for m in range(80) if scenario[m] != scenario[n] for i in ids[m, start:end]}
            assert counts[n, field] == len(mine)
            assert found[n, field] == sum(i in others for i in mine)
    assert 0 < found.sum() < counts.sum()


def test_the_variance_between_scenarios_is_a_share() -> None:
    rng = np.random.default_rng(1)
    group = np.arange(300) % 3
    assert between_share(rng.normal(size=(300, 4)), group) < 0.05
    apart = np.eye(3)[group] + 0.01 * rng.normal(size=(300, 3))
    assert between_share(apart, group) > 0.99
    assert between_share(np.ones((300, 2)), group) == 0.0
    x = rng.normal(size=(300, 1)) + group[:, None]
    means = np.array([x[group == g].mean() for g in range(3)])
    assert between_share(x, group) == pytest.approx(means[group].var() / x.var())


def test_projection_and_features_of_a_search(tmp_path: Path) -> None:
    runner = make_runner(planted_split(rows=2_000, users=60, items=20, seed=0, name="planted"), tmp_path)
    found = project(runner, "shared_bottom", 1, 0.3, rows=500)
    assert found.points_M2.shape == (500, 2) and found.shared_M.mean() == pytest.approx(0.3, abs=0.06)
    spread = found.points_M2.var(0)
    assert spread[0] >= spread[1] > 0, "the first component holds the most"
    table = runner.find_shared("shared_bottom", 1).array("embedding")
    window, sample = runner.split.train, np.linspace(0, len(runner.split.train) - 1, 500).astype(int)
    ids = window.slot_ids_NS.numpy()[sample]
    vectors = np.concatenate([table[ids[:, 0]], table[window.layout.row_starts[1] + ids[:, 1]]], axis=1)
    variances = np.sort(np.linalg.eigvalsh(np.asarray(np.cov(vectors.T, bias=True))))[::-1]
    assert spread == pytest.approx(variances[:2], rel=1e-4)
    assert found.explained == pytest.approx(variances[:2].sum() / variances.sum(), rel=1e-4)
    assert abs(np.asarray(np.corrcoef(found.points_M2.T))[0, 1]) < 1e-6
    with pytest.raises(TrainingError, match="between 0 and 1"):
        project(runner, "shared_bottom", 1, 1.0)
    records = seen_elsewhere(runner, ["shared_bottom"], [1], [0.3])
    assert [r.field for r in records] == ["user", "item", "all"]
    assert all(r.shared is not None and 0 <= r.shared <= 1 for r in records)
