"""The `retain` block of a data set's YAML: how long what can be made again, or is no longer needed, stays."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from schemas.spec import Spec

Days = Annotated[int, Field(ge=1)]


class RetainSpec(Spec):
    """Days that stay, counted back from the newest published day, which is one of them; null: for ever.

    `jobs.maintain_tables` removes the rest, except what a kept run, the newest trained day or the next day needs.
    """

    runs_days: Days | None = Field(default=None, description="rows of training_runs, evaluations and gains, and files")
    predictions_days: Days | None = Field(default=None, description="predictions of runs")
    checkpoints_days: Days | None = Field(default=None, description="weights of runs")
    features_days: Days | None = Field(
        default=None, description="days of scenario_features, behaviour_sequences and shared_instance_masks"
    )
