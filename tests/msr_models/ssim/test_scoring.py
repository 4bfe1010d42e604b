"""A row's score: the same bits whatever the batching, order, neighbours or mode; ids beyond the table are unknown."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from msr_models.data.window import Window
from msr_models.models.registry import build_model
from msr_models.modules.embedding import FieldEmbedding
from msr_models.modules.stacked import StackedLinear
from msr_models.ssim import scoring
from msr_models.ssim.selector import Selector, field_vectors
from schemas.pipeline_spec import TrunkKind
from tests.support.batches import WITH_ATTRIBUTE
from tests.support.behaviours import batch_with_gaps
from tests.support.planted_log import planted_log

USERS, ITEMS = 50, 30


def _window(num_scenarios: int = 3, rows: int = 5_000) -> Window:
    shares = tuple(range(num_scenarios, 0, -1))
    return planted_log(rows=rows, users=USERS, items=ITEMS, shares=shares).window


def _selector(window: Window, trunk: TrunkKind = "field_wise", hidden: tuple[int, ...] = (24, 8)) -> Selector:
    options: dict[str, Any] = {"embedding_dim": 8, "hidden": [8]}
    model = build_model("shared_bottom", options, window.layout, window.num_scenarios, 3)
    generator = torch.Generator().manual_seed(5)
    selector = Selector(window.layout, 8, window.num_scenarios, hidden, trunk, generator)
    selector.adopt_embeddings(model.embedding, standardise=True)
    return selector.eval()


def test_standardised_behaviours_have_the_spread_of_their_parts_together() -> None:
    embedding = FieldEmbedding(WITH_ATTRIBUTE, 8, torch.Generator().manual_seed(1))
    selector = Selector(WITH_ATTRIBUTE, 8, 3, (4,), "dense", torch.Generator().manual_seed(2))
    selector.adopt_embeddings(embedding, standardise=True)
    of_item, of_price, of_behaviours = selector.input_scale_F[[1, 3, 4]].tolist()
    assert of_behaviours == pytest.approx(1 / (of_item**-2 + of_price**-2) ** 0.5)
    batch = batch_with_gaps(500)
    vectors_BFD = field_vectors(selector.embedding, batch)
    assert vectors_BFD.shape == (500, 5, 8) and torch.equal(vectors_BFD[:, 4], embedding.pooled_history(batch))


@pytest.mark.parametrize("trunk", ["dense", "field_wise"])
@pytest.mark.parametrize("num_scenarios", [1, 3, 12])
def test_bits_do_not_depend_on_batching_order_or_subset(num_scenarios: int, trunk: TrunkKind) -> None:
    window = _window(num_scenarios)
    selector = _selector(window, trunk)
    expected = scoring.score_rows(selector, window)
    order = torch.randperm(len(window), generator=torch.Generator().manual_seed(1))
    assert np.array_equal(scoring.score_rows(selector, window, order), expected[order.numpy()])
    odd = torch.arange(7, len(window), 3)
    assert np.array_equal(scoring.score_rows(selector, window, odd), expected[odd.numpy()])
    one = [scoring.score_rows(selector, window, torch.tensor([n]))[0] for n in (0, 1, 2047, 2048, 4999)]
    assert one == expected[[0, 1, 2047, 2048, 4999]].tolist()


def test_bits_do_not_depend_on_the_size_of_the_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    window = _window()
    selector = _selector(window)
    expected = scoring.score_rows(selector, window)
    for size in (1, 97, 1000, 8192):
        monkeypatch.setattr(scoring, "SCORE_ROWS", size)
        rows = torch.arange(300) if size == 1 else torch.arange(len(window))
        assert np.array_equal(scoring.score_rows(selector, window, rows), expected[: len(rows)])


def test_bits_do_not_depend_on_training_mode_or_threads() -> None:
    window = _window()
    selector = _selector(window)
    expected = scoring.score_rows(selector, window)
    assert np.array_equal(scoring.score_rows(selector.train(), window), expected)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        assert np.array_equal(scoring.score_rows(selector, window), expected)
    finally:
        torch.set_num_threads(before)


def test_scoring_switches_dropout_off_wherever_it_hides() -> None:
    window = _window(rows=500)
    selector = _selector(window)
    expected = scoring.score_rows(selector, window)
    blocks, in_width, out_width = selector.get_parameter("layers.0.weight").shape
    dropping = _DroppingLayer(blocks, in_width, out_width, torch.Generator())
    dropping.load_state_dict(selector.layers[0].state_dict())
    selector.layers[0] = dropping
    selector.train()
    assert np.array_equal(scoring.score_rows(selector, window), expected)
    torch.manual_seed(0)
    trained = selector.score_batch(window.batch(torch.arange(500))).sigmoid().detach().numpy()
    assert not np.allclose(trained, expected, atol=1e-3), "the layer drops nothing: this test proves nothing"


def test_scoring_leaves_the_selector_as_it_was() -> None:
    window = _window(rows=100)
    selector = _selector(window).train()
    before = {name: tensor.clone() for name, tensor in selector.state_dict().items()}
    scoring.score_rows(selector, window)
    assert selector.training
    assert all(torch.equal(before[name], tensor) for name, tensor in selector.state_dict().items())


def test_ids_of_a_newer_vocabulary_score_as_out_of_vocabulary() -> None:
    window = _window(rows=200)
    selector = _selector(window)
    ids_NS = window.slot_ids_NS.clone()
    ids_NS[:, 1] = 0
    unknown = scoring.score_rows(selector, replace(window, slot_ids_NS=ids_NS))
    ids_NS = ids_NS.clone()
    ids_NS[:, 1] = ITEMS + 1 + torch.arange(200, dtype=torch.int32)
    assert np.array_equal(scoring.score_rows(selector, replace(window, slot_ids_NS=ids_NS)), unknown)


def test_every_scenario_has_a_head_of_its_own() -> None:
    window = _window(rows=300)
    selector = _selector(window)
    before = scoring.score_rows(selector, window)
    with torch.no_grad():
        selector.head_bias[1] += 1
    after = scoring.score_rows(selector, window)
    moved = window.scenario_N.numpy() == 1
    assert (after[moved] > before[moved]).all()
    assert np.array_equal(after[~moved], before[~moved])


def test_field_wise_logits_add_up_what_each_field_says() -> None:
    """Changing one field moves the logit by the same amount whatever the other field holds; `dense` does not."""
    window = _window(rows=400)
    batch = window.batch(torch.arange(400))
    cases: list[tuple[TrunkKind, bool]] = [("field_wise", True), ("dense", False)]
    for trunk, additive in cases:
        selector = _selector(window, trunk)
        vectors = field_vectors(selector.embedding, batch)
        scenario = torch.zeros(400, dtype=torch.int64)
        other_item = vectors.clone()
        other_item[:, 1] = vectors[0, 1]
        other_user, both = vectors.clone(), other_item.clone()
        other_user[:, 0], both[:, 0] = vectors[1, 0], vectors[1, 0]
        step = selector(other_item, scenario) - selector(vectors, scenario)
        step_elsewhere = selector(both, scenario) - selector(other_user, scenario)
        assert torch.allclose(step, step_elsewhere, atol=1e-4) is additive


def test_embeddings_are_a_frozen_copy() -> None:
    window = _window(rows=64)
    selector = _selector(window)
    assert not selector.embedding.weight.requires_grad
    assert not selector.embedding.weight.requires_grad
    assert "embedding.weight" in selector.state_dict()


class _DroppingLayer(StackedLinear):
    """A layer with dropout behind it."""

    def every(self, x: torch.Tensor) -> torch.Tensor:
        return F.dropout(super().every(x), 0.5, self.training)
