"""One network for all rows: scenarios do not reach it, metrics keep them."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from msr_models.data.batch import Batch
from msr_models.experiments.planted_log import planted_log
from msr_models.experiments.pooled import Pooled
from msr_models.experiments.split import one_scenario
from msr_models.models.registry import build_model
from msr_models.models.shared_bottom import SharedBottom, SharedBottomConfig
from msr_models.modules.routing import Routing

WINDOW = planted_log(rows=200, users=20, items=10).window


def _pooled(name: str) -> Pooled:
    return Pooled(build_model(name, {"hidden": [8], "embedding_dim": 4}, WINDOW.layout, 1, 3), WINDOW.num_scenarios)


class _Recording(SharedBottom):
    """Records its last visits."""

    routing: Routing
    scenario_B: Tensor

    def network_logits(self, e_BE: Tensor, batch: Batch, routing: Routing) -> Tensor:
        self.routing, self.scenario_B = routing, batch.scenario_B
        return super().network_logits(e_BE, batch, routing)


def test_the_network_sees_one_scenario_and_the_padding() -> None:
    config = SharedBottomConfig(embedding_dim=4, hidden=(8,))
    network = _Recording(config, WINDOW.layout, 1, torch.Generator().manual_seed(1))
    Pooled(network, 3).visit(WINDOW.batch(torch.arange(50)), capacity=64)
    routing = network.routing
    assert not network.scenario_B.any() and not routing.scenario_V.any()
    assert routing.ends_K.tolist() == [64] and routing.num_rows == 50
    assert routing.real_V is not None and routing.real_V.tolist() == [True] * 50 + [False] * 14


@pytest.mark.parametrize("name", ["shared_bottom", "star", "mmoe", "epnet"])
def test_it_scores_as_the_network_does_on_rows_of_one_scenario(name: str) -> None:
    model = _pooled(name).eval()
    rows = torch.arange(64)
    want = model.network(one_scenario(WINDOW).batch(rows))
    batch = WINDOW.batch(rows)
    torch.testing.assert_close(model(batch), want)
    torch.testing.assert_close(model.scenario_logits(model.embed(batch), batch), want[:, None].expand(-1, 3))
    moved = replace(batch, scenario_B=(batch.scenario_B + 1) % 3)
    torch.testing.assert_close(model(moved), want)


def test_behaviours_are_of_that_scenario_too() -> None:
    window = replace(WINDOW, hist_scenario_H=torch.tensor([-1, 0, 1, 2], dtype=torch.int16))
    assert one_scenario(window).hist_scenario_H.tolist() == [-1, 0, 0, 0]
    assert one_scenario(window, 1, "s1").hist_scenario_H.tolist() == [-1, -1, 0, -1]
    happened_BL = torch.tensor([[-1], [2]], dtype=torch.int16)
    together = replace(WINDOW.batch(torch.arange(2)), hist_scenario_BL=happened_BL).in_one_scenario()
    assert together.hist_scenario_BL.tolist() == [[-1], [0]] and not together.scenario_B.any()


def test_its_visits_are_the_rows_each_once_with_padding() -> None:
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
