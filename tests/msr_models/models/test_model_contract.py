"""What every registered model's scores must hold to; a new model is found by itself."""

from __future__ import annotations

import dataclasses

import pytest
import torch
import torch.nn.functional as F

from msr_models.models.registry import build_model, known_models
from msr_models.modules.embedding import FieldEmbedding
from tests.support.batches import LAYOUT, random_batch, take
from tests.support.models import SCENARIOS, build

# Default options on LAYOUT with 3 scenarios: a change of architecture must be meant.
NUM_PARAMETERS = {
    "adasparse": 42_945,
    "adin": 59_754,
    "aesm2": 60_953,
    "autoint": 58_579,
    "base_dnn": 21_249,
    "dcn": 58_211,
    "dcn_v2": 115_091,
    "deepfm": 56_618,
    "dffm": 25_633,
    "epnet": 62_323,
    "finetune": 63_651,
    "hamur": 67_011,
    "hinet": 141_747,
    "hmoe": 118_115,
    "logistic_regression": 32,
    "m2m": 238_849,
    "m3oe": 77_270,
    "maria": 52_438,
    "mlora": 27_025,
    "mmoe": 117_395,
    "optmsm": 245_309,
    "optmsm_cgc": 477_309,
    "optmsm_moe": 362_269,
    "pepnet": 88_563,
    "ple": 211_635,
    "ppnet": 82_771,
    "sar_net": 117_379,
    "sfpnet": 134_062,
    "shared_bottom": 56_531,
    "single_task": 63_651,
    "star": 82_181,
}


@pytest.mark.parametrize("name", known_models())
@pytest.mark.parametrize("num_scenarios", [1, 2, 3, 12])
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
def test_rows_score_the_same_alone_among_others_and_in_any_order(name: str) -> None:
    model = build(name).eval()
    batch = random_batch(64, SCENARIOS)
    logits_B = model(batch)
    for rows in (torch.tensor([17]), torch.tensor([40, 3, 17]), torch.arange(63, -1, -1)):
        torch.testing.assert_close(model(take(batch, rows)), logits_B[rows], atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", known_models())
def test_logits_have_both_signs(name: str) -> None:
    logits = torch.cat([build(name, seed).eval()(random_batch(500, SCENARIOS)) for seed in range(4)])
    assert logits.min() < 0 < logits.max()


@pytest.mark.parametrize("name", known_models())
def test_logits_start_at_base_rates_once(name: str) -> None:
    """Each scenario's rate, drawn towards that of all where there are few rows; one without rows has the latter."""
    model, batch = build(name).eval(), random_batch(40, SCENARIOS, share=0.3)
    before = model(batch), model.scenario_logits(model.embed(batch), batch), model.visit(batch).logits_V
    model.start_from_base_rates(torch.tensor([1000, 200, 10, 90, 0]), torch.tensor([20, 60, 0, 90, 0]))
    overall = (170 + 1) / (1300 + 20)
    rates = [(p + 20 * overall) / (n + 20) for n, p in ((1000, 20), (200, 60), (10, 0), (90, 90), (0, 0))]
    base_K = torch.tensor(rates, dtype=torch.float64).logit().float()
    torch.testing.assert_close(model(batch) - before[0], base_K[batch.scenario_B], atol=1e-4, rtol=0)
    after_BK = model.scenario_logits(model.embed(batch), batch)
    torch.testing.assert_close(after_BK - before[1], base_K.expand(40, -1), atol=1e-4, rtol=0)
    visits = model.visit(batch)
    torch.testing.assert_close(visits.logits_V - before[2], base_K[visits.scenario_V], atol=1e-4, rtol=0)
    model.start_from_base_rates(torch.full((SCENARIOS,), 10), torch.full((SCENARIOS,), 9))
    torch.testing.assert_close(model.base_logit_K, base_K, msg="weights that a run starts from keep theirs")


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


@pytest.mark.parametrize("name", known_models())
def test_id_0_works_in_every_field(name: str) -> None:
    """It is a row of its own that trains, except in many-valued fields and behaviours, where it is nothing."""
    model, batch = build(name), random_batch(60, SCENARIOS)
    for slot in range(LAYOUT.total_slots):
        slots_BS = batch.slot_ids_BS.clone()
        slots_BS[:, slot] = 0
        assert model(dataclasses.replace(batch, slot_ids_BS=slots_BS)).isfinite().all(), slot
    nothing_BS, nothing_BLA = torch.zeros_like(batch.slot_ids_BS), torch.zeros_like(batch.hist_ids_BLA)
    loss = F.softplus(model(dataclasses.replace(batch, slot_ids_BS=nothing_BS, hist_ids_BLA=nothing_BLA))).sum()
    loss.backward()
    assert loss.isfinite() and all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())
    touched = {
        row
        for table in model.modules()
        if isinstance(table, FieldEmbedding) and table.weight.grad is not None
        for row in table.weight.grad.abs().sum(1).nonzero().squeeze(1).tolist()
    }
    starts = zip(LAYOUT.row_starts, LAYOUT.num_slots, strict=True)
    assert touched == {start for start, slots in starts if slots == 1}


@pytest.mark.parametrize("name", known_models())
def test_ids_are_read_by_field_embeddings_alone(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """So what their own tests say of unknown ids and of ids above 2^24 holds in every model."""
    model, batch, other = build(name).eval(), random_batch(30, SCENARIOS), random_batch(30, SCENARIOS, seed=1)
    # Scenarios are no ids, those of the behaviours neither
    other = dataclasses.replace(other, scenario_B=batch.scenario_B, hist_scenario_BL=batch.hist_scenario_BL)
    assert not torch.equal(model(batch), model(other))
    length, fields = LAYOUT.hist_length, LAYOUT.num_fields
    shapes = {"fields": (fields,), "history": (length,), "pooled_history": ()}
    for method, shape in shapes.items():
        monkeypatch.setattr(FieldEmbedding, method, lambda self, b, s=shape: torch.ones(len(b), *s, self.width))
    monkeypatch.setattr(FieldEmbedding, "history_mask", lambda self, b: torch.ones(len(b), length, dtype=torch.bool))
    monkeypatch.setattr(FieldEmbedding, "history_in_scenario", lambda self, b, r, s, k: torch.ones(len(r), self.width))
    assert torch.equal(model(batch), model(other))


@pytest.mark.parametrize("name", known_models())
def test_the_number_of_parameters_is_the_one_written_down(name: str) -> None:
    number = sum(p.numel() for p in build_model(name, {}, LAYOUT, 3, 1).parameters())
    assert NUM_PARAMETERS.get(name) == number, f'NUM_PARAMETERS lacks "{name}": {number:_}, or the model was changed'


@pytest.mark.parametrize("name", known_models())
def test_nothing_moves_in_eval_mode(name: str) -> None:
    model, batch = build(name).eval(), random_batch(40, SCENARIOS, share=0.2)
    before = {key: value.clone() for key, value in (*model.named_buffers(), *model.named_parameters())}
    first = model(batch)
    model.visit(batch)
    model.scenario_logits(model.embed(batch), batch)
    assert all(torch.equal(value, before[key]) for key, value in (*model.named_buffers(), *model.named_parameters()))
    assert torch.equal(model(batch), first)
