"""MLPs cut from a scenario's embedding."""

from __future__ import annotations

import torch

from msr_models.modules.micro_mlp import MicroMlp
from msr_models.modules.routing import Routing


def test_slices_are_weights_and_biases_in_turn() -> None:
    part = MicroMlp(2, 3, (2, 1), torch.Generator().manual_seed(0))
    assert part.scenario_KE.shape == (2, 3 * 2 + 2 + 2 * 1 + 1)
    with torch.no_grad():
        part.scenario_KE[1] = torch.tensor([1.0, 2, 3, 4, 5, 6, 10, -100, 7, 8, 9])
    x = torch.tensor([[[1.0, 0, 0], [0, 0, 1], [0, 0, 0], [-20, 0, 0]]])
    routing = Routing.own(torch.tensor([1]), 2)
    # First layer: x @ [[1, 2], [3, 4], [5, 6]] + [10, -100], ReLU; then 7 and 8 of it and 9.
    assert part(x, routing).tolist() == [[[7 * 11 + 9], [7 * 15 + 9], [7 * 10 + 9], [9]]]


def test_visits_use_their_own_scenarios_parameters_for_all_vectors() -> None:
    generator = torch.Generator().manual_seed(0)
    part, x = MicroMlp(3, 4, (5,), generator), torch.randn(7, 2, 4, generator=generator)
    with torch.no_grad():
        part.scenario_KE.normal_(generator=generator)
    scenario = torch.tensor([0, 0, 0, 2, 2, 2, 2])
    got = part(x, Routing.own(scenario, 3))
    for v, k in enumerate(scenario.tolist()):
        weight, bias = part.scenario_KE[k, :20].view(4, 5), part.scenario_KE[k, 20:]
        torch.testing.assert_close(got[v], x[v] @ weight + bias)


def test_weights_start_by_layer_and_biases_at_zero() -> None:
    part = MicroMlp(50, 16, (4, 8), torch.Generator().manual_seed(0))
    first, bias, second, last = part.scenario_KE.split([64, 4, 32, 8], dim=1)
    assert bias.abs().max() == 0 == last.abs().max()
    for weight, fans in ((first, 20), (second, 12)):
        assert 0.95 * (6 / fans) ** 0.5 < weight.abs().max() <= (6 / fans) ** 0.5
