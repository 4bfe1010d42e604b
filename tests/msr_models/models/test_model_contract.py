"""What every registered model must hold to; a new model is found by itself."""

from __future__ import annotations

import pytest
import torch

from msr_models.models.registry import build_model, known_models
from tests.support.batches import LAYOUT, random_batch, take

SCENARIOS = 5


def build(name: str, seed: int = 1, num_scenarios: int = SCENARIOS) -> torch.nn.Module:
    model = build_model(name, {}, LAYOUT, num_scenarios, seed)
    generator = torch.Generator().manual_seed(9)
    with torch.no_grad():  # away from zeros, so that no parameter hides behind a zero factor
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    return model


@pytest.mark.parametrize("name", known_models())
@pytest.mark.parametrize("num_scenarios", [1, 3, 12])
def test_visits_forward_and_scenario_logits_are_the_same_numbers(name: str, num_scenarios: int) -> None:
    model = build(name, num_scenarios=num_scenarios).eval()
    batch = random_batch(40, num_scenarios, share=0.3)
    logits_BK = model.scenario_logits(model.embed(batch), batch)
    assert logits_BK.shape == (40, num_scenarios) and logits_BK.dtype == torch.float32
    own = logits_BK.gather(1, batch.scenario_B[:, None]).squeeze(1)
    torch.testing.assert_close(model(batch), own, atol=1e-5, rtol=0)
    visits = model.visit(batch)
    torch.testing.assert_close(visits.logits_V, logits_BK[visits.row_index_V, visits.scenario_V], atol=1e-5, rtol=0)
    assert len(visits.logits_V) == 40 + int(batch.shared_B.sum()) * (num_scenarios - 1)


@pytest.mark.parametrize("name", known_models())
def test_every_parameter_gets_a_gradient_when_every_scenario_is_there(name: str) -> None:
    model = build(name)
    torch.nn.functional.softplus(model(random_batch(400, SCENARIOS))).sum().backward()
    for key, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().max() > 0, key
        if parameter.shape[0] == SCENARIOS:
            assert (parameter.grad.flatten(1) if parameter.dim() > 1 else parameter.grad[:, None]).abs().amax(
                1
            ).min() > 0


@pytest.mark.parametrize("name", known_models())
def test_an_absent_scenario_keeps_its_own_parameters(name: str) -> None:
    model = build(name)
    torch.nn.functional.softplus(model(random_batch(100, SCENARIOS, scenarios=[0, 1, 3, 4]))).sum().backward()
    own = [p for p in model.parameters() if p.shape[0] == SCENARIOS]
    assert own
    for parameter in own:
        assert parameter.grad is not None and parameter.grad[2].abs().max() == 0


@pytest.mark.parametrize("name", known_models())
def test_rows_score_the_same_alone_and_among_others(name: str) -> None:
    model = build(name).eval()
    batch = random_batch(64, SCENARIOS)
    some = torch.tensor([3, 17, 40])
    torch.testing.assert_close(model(batch)[some], model(take(batch, some)), atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", known_models())
def test_logits_have_both_signs(name: str) -> None:
    logits = build(name).eval()(random_batch(500, SCENARIOS))
    assert logits.min() < 0 < logits.max()


@pytest.mark.parametrize("name", known_models())
def test_fresh_weights_depend_on_the_seed_alone(name: str) -> None:
    torch.manual_seed(3)
    first = build_model(name, {}, LAYOUT, SCENARIOS, 1).state_dict()
    torch.manual_seed(4)
    second = build_model(name, {}, LAYOUT, SCENARIOS, 1).state_dict()
    assert all(torch.equal(first[key], second[key]) for key in first)


@pytest.mark.parametrize("name", known_models())
def test_an_empty_batch_is_scored(name: str) -> None:
    model = build(name).eval()
    assert model(take(random_batch(4, SCENARIOS), torch.zeros(0, dtype=torch.int64))).shape == (0,)
