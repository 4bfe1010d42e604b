"""Squeeze-and-excitation by scenario, against its formula."""

from __future__ import annotations

import torch

from msr_models.modules.routing import Routing
from msr_models.modules.squeeze_gate import SqueezeGate


def test_every_vector_is_scaled_by_one_number_of_its_visits_scenario() -> None:
    gate = SqueezeGate(3, 4, torch.Generator().manual_seed(1))
    e_BCD = torch.randn(6, 4, 5, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        gate.excite.bias.normal_(generator=torch.Generator().manual_seed(3))
    routing = Routing.of_mask(torch.tensor([[1, 1, 0, 0, 1, 1], [0, 1, 1, 0, 0, 0], [1, 0, 0, 1, 0, 0]]).bool())
    for row, m, found in zip(routing.row_index_V, routing.scenario_V, gate(e_BCD, routing), strict=True):
        averages = torch.stack([e_BCD[row, i].sum() / 5 for i in range(4)])
        z = torch.sigmoid(gate.excite.weight[m].T @ averages + gate.excite.bias[m])
        torch.testing.assert_close(found, torch.cat([z[i] * e_BCD[row, i] for i in range(4)]))
