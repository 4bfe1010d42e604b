"""The linear part against a slow sum over ids."""

from __future__ import annotations

import pytest
import torch

from msr_models.models.registry import build_model
from msr_models.modules.wide_part import WidePart
from tests.support.batches import LAYOUT, random_batch


@pytest.mark.parametrize("reads_behaviours", [True, False])
def test_it_is_the_sum_of_the_ids_weights(reads_behaviours: bool) -> None:
    wide, batch = WidePart(LAYOUT, reads_behaviours, torch.Generator().manual_seed(1)), random_batch(20, 3)
    assert wide(batch).abs().max() == 0, "nothing is known before it is fitted"
    w = torch.randn(LAYOUT.total_rows, generator=torch.Generator().manual_seed(2))
    wide.adopt(w)
    row_BJ, factor_BJ = wide.inputs.terms(batch)
    torch.testing.assert_close((w[row_BJ] * factor_BJ).sum(1), wide(batch))
    user, item, tags, price = LAYOUT.row_starts
    for b, got in enumerate(wide(batch).tolist()):
        slots = batch.slot_ids_BS[b].tolist()
        want = float(w[user + slots[0]] + w[item + slots[1]] + w[price + slots[5]])
        known = [float(w[tags + tag]) for tag in slots[2:5] if tag]
        want += sum(known) / max(1, len(known))
        if reads_behaviours:
            read = [float(w[item + i]) for i in batch.hist_ids_BLA[b, :, 0].tolist() if i]
            want += sum(read) / max(1, len(read))
        assert got == pytest.approx(want, abs=1e-5)


def test_a_model_adds_it_in_every_scenario() -> None:
    model, batch = build_model("star", {"wide": True}, LAYOUT, 3, 1).eval(), random_batch(20, 3, share=0.4)
    assert model.wide is not None
    before = model.scenario_logits(model.embed(batch), batch), model(batch), model.visit(batch).logits_V
    model.wide.adopt(torch.randn(LAYOUT.total_rows, generator=torch.Generator().manual_seed(2)))
    added_B = model.wide(batch)
    after = model.scenario_logits(model.embed(batch), batch), model(batch), model.visit(batch).logits_V
    torch.testing.assert_close(after[0] - before[0], added_B[:, None].expand(-1, 3), atol=1e-5, rtol=0)
    torch.testing.assert_close(after[1] - before[1], added_B, atol=1e-5, rtol=0)
    row_V = model.visit(batch).row_index_V
    torch.testing.assert_close(after[2] - before[2], added_B[row_V], atol=1e-5, rtol=0)
