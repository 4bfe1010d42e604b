"""Gates of a scenario's embedding, and the network made of them."""

from __future__ import annotations

import torch

from msr_models.modules.tailoring_gate import ScenarioAwareDNN, ScenarioGate, Visits


def test_visits_take_rows_until_rows_are_visits() -> None:
    visits, rows = Visits(torch.tensor([0, 1, 1]), torch.tensor([4, 0, 4])), torch.arange(5)
    assert visits.of(rows).tolist() == [4, 0, 4]
    assert visits.reached().of(rows) is rows
    assert visits.reached().scenario_V is visits.scenario_V


def test_a_gate_is_between_0_and_1_and_tells_scenarios_apart() -> None:
    gate, generator = ScenarioGate(6, 3, 8, 4, torch.Generator().manual_seed(1)), torch.Generator().manual_seed(2)
    scenario_KS, x_RI = torch.randn(2, 3, generator=generator), torch.randn(5, 6, generator=generator)
    visits = Visits(torch.arange(2).repeat_interleave(5), torch.arange(5).repeat(2))
    open_VO = gate(x_RI, scenario_KS, visits)
    assert open_VO.shape == (10, 4) and open_VO.min() > 0 and open_VO.max() < 1
    assert (open_VO[:5] - open_VO[5:]).abs().min() > 0
    torch.testing.assert_close(gate(x_RI[visits.row_index_V], scenario_KS, visits.reached()), open_VO)


def test_without_gates_the_scenario_does_not_count() -> None:
    make = torch.Generator().manual_seed(1)
    plain, aware = (ScenarioAwareDNN(6, 3, (5, 4), hidden, 0.0, make) for hidden in (None, 7))
    h_RI, scenario_KS = torch.randn(8, 6, generator=make), torch.randn(2, 3, generator=make)
    one, other = (Visits(torch.full((8,), k), None) for k in range(2))
    assert torch.equal(plain(h_RI, scenario_KS, one), plain(h_RI, scenario_KS, other))
    assert (aware(h_RI, scenario_KS, one) - aware(h_RI, scenario_KS, other)).abs().min() > 0


def test_dropout_is_for_training() -> None:
    dnn = ScenarioAwareDNN(6, 3, (50,), 7, 0.5, torch.Generator().manual_seed(1))
    h_RI, scenario_KS, visits = torch.ones(4, 6), torch.ones(2, 3), Visits(torch.zeros(4, dtype=torch.int64), None)
    assert len(dnn(h_RI, scenario_KS, visits).unique()) > 1
    assert len(dnn.eval()(h_RI, scenario_KS, visits).unique()) == 1
