"""What a killed run resumes from, bit for bit: weights, optimiser, position, random state, counters."""

from __future__ import annotations

import contextlib
import glob
import os
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lake.files import replacing
from msr_models.training.processes import Processes

ABANDONED_SECONDS = 3600.0


@dataclass(kw_only=True, slots=True)
class Best:
    """The best epoch so far (1-based) with its validation and weights."""

    score: float
    epoch: int
    auc: float | None
    logloss: float
    calibrated_logloss: float
    weights: dict[str, Tensor]


@dataclass(kw_only=True, slots=True)
class TrainingState:
    """Position: the next batch (0-based) of `epoch` (1-based), and steps done before it. loss_sum: of the epoch's rows
    so far; seconds: spent training, validation included; random: generator states of every process, by rank.
    """

    identity: str
    epoch: int = 1
    batch: int = 0
    steps: int = 0
    loss_sum: float = 0.0
    seconds: float = 0.0
    waiting_seconds: float = 0.0
    best: Best | None = None
    model: dict[str, Tensor] = field(default_factory=dict)
    optimiser: dict[str, Any] = field(default_factory=dict)
    random: list[Tensor] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Resume:
    """Where a run keeps its state. identity: of the run, its code and libraries; a file of any other is ignored.

    every_steps: steps between two states, 0: at the end of each epoch only.
    """

    path: Path
    identity: str
    every_steps: int = 0

    def save(self, state: TrainingState) -> None:
        """Write atomically. Two processes may train the same day: either's state will do for both."""
        self._remove_abandoned()
        with replacing(self.path) as aside, aside.open("wb") as file:
            torch.save(asdict(state), file)
            file.flush()
            os.fsync(file.fileno())

    def load(self) -> TrainingState | None:
        """The state of this run; None where there is none that can be used: then the run starts from the beginning."""
        try:
            content = torch.load(self.path, map_location="cpu", weights_only=True)
            if content["identity"] != self.identity:
                return None
            best = content.pop("best")
            return TrainingState(**content, best=None if best is None else Best(**best))
        except Exception:
            # A state saves time only: without one (missing, damaged) the run ends in the same result.
            return None

    def remove(self) -> None:
        """Delete the state: the run is complete and stored elsewhere."""
        self.path.unlink(missing_ok=True)
        self._remove_abandoned()

    def _remove_abandoned(self) -> None:
        """What killed processes left half written; files of living ones are younger."""
        for partial in self.path.parent.glob(f".{glob.escape(self.path.name)}.*"):
            with contextlib.suppress(FileNotFoundError):
                if time.time() - partial.stat().st_mtime > ABANDONED_SECONDS:
                    partial.unlink()


def random_states(processes: Processes, device: torch.device) -> list[Tensor]:
    """Generator states of every process: the CPU's, and behind it the GPU's where one trains."""
    states = [torch.get_rng_state()]
    if device.type == "cuda":
        states.append(torch.cuda.get_rng_state(device))
    return processes.gather_bytes(torch.cat(states))


def restore_random_state(state: Tensor, device: torch.device) -> None:
    """Inverse of `random_states` for one process."""
    size = len(torch.get_rng_state())
    torch.set_rng_state(state[:size])
    if device.type == "cuda":
        torch.cuda.set_rng_state(state[size:], device)
