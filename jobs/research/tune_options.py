"""Options of jobs.research.tune, checked before any rows are read."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from jobs.research.options import TrialOptions
from msr_models.experiments.search_space import SpaceSpec, read_space
from schemas.errors import TrainingError
from schemas.text import did_you_mean

GRIDS = Path(__file__).parent / "grids"
TRIALS = 20

PrunerKind = Literal["median", "hyperband", "none"]


class TuneOptions(TrialOptions):
    models: str = Field(description="all, or names separated by commas; one study each")
    trials: int | None = Field(
        default=None, ge=1, title="N", description=f"trials of each model (default {TRIALS}, of a grid every point)"
    )
    processes: int = Field(default=1, ge=1, le=256, title="P", description="processes that run trials side by side")
    space: Path | None = Field(default=None, title="FILE", description="YAML: what is tuned, instead of the default")
    grid: str | None = Field(default=None, title="NAME", description="try every combination of a paper's or a FILE's")
    only: list[str] = Field(default=[], title="PARAMETER", description="tune these alone: trainer.learning_rate")
    shared: bool = Field(default=False, description="share the rows that a search finds; tune lambda and the ratio too")
    pruner: PrunerKind | None = Field(default=None, description="ends bad trials early (median; grid: none)")
    draws_seed: int = Field(default=1, ge=0, lt=2**31, title="N", description="seed of what the trials draw")
    seeds: int = Field(default=1, ge=1, title="N", description="seeds 1 .. N of the winner's test; trials have seed 1")

    @model_validator(mode="after")
    def _draws_in_one_way(self) -> TuneOptions:
        if self.grid is not None and self.space is not None:
            raise ValueError("give either --grid or --space")
        return self


def space_file(options: TuneOptions) -> SpaceSpec | None:
    """The space that a file gives. Raises TrainingError for an unknown grid and for a mistake in the file."""
    if options.space is not None:
        return read_space(options.space)
    if options.grid is None:
        return None
    if options.grid.endswith((".yaml", ".yml")):
        return read_space(Path(options.grid), "--grid")
    known = sorted(path.stem for path in GRIDS.glob("*.yaml"))
    if options.grid not in known:
        hint = did_you_mean(options.grid, known)
        raise TrainingError(
            f"--grid {options.grid!r} is not known; {hint} known: {', '.join(known)}, or the path of a YAML file"
        )
    return read_space(GRIDS / f"{options.grid}.yaml", "--grid")
