"""The factor rises, stays or falls as it says."""

from __future__ import annotations

from itertools import pairwise

import pytest

from msr_models.training.schedule import Schedule
from schemas.pipeline_spec import ScheduleKind


def test_constant_is_one_everywhere() -> None:
    schedule = Schedule(total_steps=10)
    assert schedule.is_constant and [schedule.factor(s) for s in range(12)] == [1.0] * 12


@pytest.mark.parametrize("kind", ["linear", "cosine"])
def test_it_falls_from_one_to_zero_after_the_warm_up(kind: ScheduleKind) -> None:
    schedule = Schedule(kind=kind, warmup_steps=4, total_steps=24)
    factors = [schedule.factor(s) for s in range(25)]
    assert factors[:4] == [0.25, 0.5, 0.75, 1.0] and factors[4] == 1.0
    assert all(a > b for a, b in pairwise(factors[4:]))
    assert (
        factors[14] == pytest.approx(0.5) and factors[24] == pytest.approx(0.0) and schedule.factor(99) == factors[24]
    )


def test_constant_with_a_warm_up() -> None:
    schedule = Schedule(warmup_steps=2, total_steps=5)
    assert not schedule.is_constant and [schedule.factor(s) for s in range(4)] == [0.5, 1.0, 1.0, 1.0]
