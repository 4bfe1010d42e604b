"""The search benchmark measures the steps of a real search, at the share that it says."""

from __future__ import annotations

from typing import Any

import pytest

from benchmarks import bench_search
from benchmarks.synthetic import synthetic_window
from msr_models.models.shared_bottom import SharedBottom


@pytest.mark.parametrize("sample", [None, 1])
def test_a_joint_epoch_holds_the_share_and_scores_all(sample: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    scored: list[int] = []
    window = synthetic_window(2_000, 100_000, 5, 0.0)
    monkeypatch.setattr(bench_search, "score_rows", lambda selector, rows: scored.append(len(rows)))
    state, epoch = bench_search.joint_epoch(window, (8, 4), sample)
    epoch()
    assert state.spec.tower_sample == sample
    assert state.curves[-1]["share_rate"] == pytest.approx(0.3, abs=0.02)
    assert scored == [2_000]


def test_the_baseline_trains_the_rows_of_a_search_and_visits_no_other_tower(monkeypatch: pytest.MonkeyPatch) -> None:
    visits: list[int] = []
    window = synthetic_window(2_000, 100_000, 5, 0.0)
    original = SharedBottom.network_logits

    def watched(self: SharedBottom, e_BE: Any, batch: Any, routing: Any) -> Any:
        visits.append(len(routing.row_index_V))
        return original(self, e_BE, batch, routing)

    monkeypatch.setattr(SharedBottom, "network_logits", watched)
    bench_search.baseline_epoch(window, (8, 4))()
    assert visits == [1_900]


def test_times_are_taken_in_turns_after_one_that_warms_up() -> None:
    calls: list[str] = []
    seconds = bench_search.median_seconds({"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}, 2)
    assert calls == ["a", "b"] * 3
    assert set(seconds) == {"a", "b"}
