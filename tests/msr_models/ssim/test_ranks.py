"""Mid-ranks against a slow version written from the definition."""

from __future__ import annotations

import numpy as np
import pytest

from msr_models.ssim.ranks import rank_pct


@pytest.mark.parametrize("decimals", [1, 2, 7])
def test_ranks_equal_the_definition_with_and_without_ties(decimals: int) -> None:
    rng = np.random.default_rng(decimals)
    reference = np.round(rng.random(300), decimals).astype(np.float32)
    scores = np.concatenate([reference[:50], np.round(rng.random(50), decimals).astype(np.float32), [-1, 2]])
    slow = [((reference < s).sum() + (reference == s).sum() / 2 + 0.5) / 301 for s in scores.astype(np.float32)]
    found = rank_pct(scores.astype(np.float32), np.sort(reference))
    np.testing.assert_allclose(found, slow, rtol=0, atol=1e-15)
    assert found.min() > 0
    assert found.max() < 1


def test_all_equal_scores_rank_in_the_middle_and_so_does_an_empty_reference() -> None:
    assert rank_pct(np.full(4, 0.3, np.float32), np.full(9, 0.3, np.float32)).tolist() == [0.5] * 4
    assert rank_pct(np.array([0.1, 0.9], np.float32), np.array([], np.float32)).tolist() == [0.5, 0.5]


def test_a_rank_does_not_depend_on_what_is_ranked_beside_it() -> None:
    reference = np.sort(np.random.default_rng(0).random(100).astype(np.float32))
    scores = np.random.default_rng(1).random(40).astype(np.float32)
    alone = [rank_pct(scores[i : i + 1], reference)[0] for i in range(40)]
    assert rank_pct(scores, reference).tolist() == alone
