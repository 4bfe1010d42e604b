"""Learning-rate schedules as a factor on the base rate."""

from __future__ import annotations

import math
from dataclasses import dataclass

from schemas.pipeline_spec import ScheduleKind


@dataclass(frozen=True, kw_only=True, slots=True)
class Schedule:
    """Rises linearly over warmup_steps, then stays (`constant`) or falls to 0 at total_steps."""

    kind: ScheduleKind = "constant"
    warmup_steps: int = 0
    total_steps: int = 1

    @property
    def is_constant(self) -> bool:
        """Whether every step has factor 1."""
        return self.kind == "constant" and self.warmup_steps == 0

    def factor(self, step: int) -> float:
        """Factor of 0-based step `step`."""
        if step < self.warmup_steps:
            return (step + 1) / self.warmup_steps
        if self.kind == "constant":
            return 1.0
        done = min(1.0, (step - self.warmup_steps) / max(1, self.total_steps - self.warmup_steps))
        return 1.0 - done if self.kind == "linear" else 0.5 * (1.0 + math.cos(math.pi * done))
