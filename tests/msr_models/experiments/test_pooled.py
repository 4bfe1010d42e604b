"""One network for all rows: scenarios do not reach it, metrics keep them."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from msr_models.experiments.planted_log import planted_log
from msr_models.experiments.pooled import Pooled
from msr_models.experiments.split import one_scenario
from msr_models.models.registry import build_model

WINDOW = planted_log(rows=200, users=20, items=10).window


def _pooled(name: str) -> Pooled:
    return Pooled(build_model(name, {"hidden": [8], "embedding_dim": 4}, WINDOW.layout, 1, 3), WINDOW.num_scenarios)


@pytest.mark.parametrize("name", ["shared_bottom", "star", "mmoe"])
def test_it_scores_as_the_network_does_on_rows_of_one_scenario(name: str) -> None:
    model = _pooled(name).eval()
    rows = torch.arange(64)
    want = model.network(one_scenario(WINDOW).batch(rows))
    batch = WINDOW.batch(rows)
    torch.testing.assert_close(model(batch), want)
    torch.testing.assert_close(model.scenario_logits(model.embed(batch), batch), want[:, None].expand(-1, 3))
    moved = replace(batch, scenario_B=(batch.scenario_B + 1) % 3)
    torch.testing.assert_close(model(moved), want)


def test_its_visits_are_the_rows_each_once_with_padding_as_asked() -> None:
    model, batch = _pooled("shared_bottom"), WINDOW.batch(torch.arange(50))
    visits = model.visit(batch, capacity=64)
    assert visits.real_V is not None and int(visits.real_V.sum()) == 50
    own = torch.zeros(50).index_add(0, visits.row_index_V[visits.real_V], visits.logits_V[visits.real_V])
    torch.testing.assert_close(own, model(batch))


def test_every_weight_learns_from_every_scenario() -> None:
    model, batch = _pooled("shared_bottom"), WINDOW.batch(torch.arange(200))
    only = WINDOW.batch((WINDOW.scenario_N == 1).nonzero().squeeze(1))
    for rows in (batch, only):
        model.zero_grad()
        model(rows).square().sum().backward()
        assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters())
