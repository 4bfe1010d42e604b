"""Write a day's scenario_features: every impression encoded, with statistics of the days before and its hist_end.

The step first builds what is missing of the lookback's impressions, the vocabulary and the day's behaviour_sequences.
"""

from __future__ import annotations

from jobs.building.days import for_each_feature_day
from jobs.building.features import FEATURES, build_day
from jobs.cli import StepArgs, StepOptions, run_step

GROUP = "daily"


def step(args: StepArgs[StepOptions]) -> None:
    """Features of all days."""
    for_each_feature_day("build_scenario_features", args.dataset, args.days, build_day, FEATURES)


if __name__ == "__main__":
    run_step(__doc__, step, StepOptions)
