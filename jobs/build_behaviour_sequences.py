"""Write a day's behaviour_sequences: each user's behaviours of the lookback up to the end of the day, oldest first.

The data set's YAML (sequence) says which events are behaviours, how many an impression sees and how old they may be.
The step first ingests missing days of the lookback and builds a missing vocabulary.
"""

from __future__ import annotations

from jobs.building.days import for_each_feature_day
from jobs.building.sequences import SEQUENCES, build_sequences
from jobs.cli import StepArgs, StepOptions, run_step

GROUP = "daily"


def step(args: StepArgs[StepOptions]) -> None:
    """Sequences of all days."""
    for_each_feature_day("build_behaviour_sequences", args.dataset, args.days, build_sequences, SEQUENCES)


if __name__ == "__main__":
    run_step(__doc__, step, StepOptions)
