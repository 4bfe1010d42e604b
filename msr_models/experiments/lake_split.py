"""A day of the lake as a split: tested on the day itself, trained and validated on the days before as every day."""

from __future__ import annotations

from datetime import date
from typing import Any

import numpy as np
import pyarrow.compute as pc
import torch
from numpy.typing import NDArray
from torch import Tensor

from lake import reader as lake_reader
from msr_models.data.columns import find_in
from msr_models.data.window import Window
from msr_models.experiments.split import Split, select_rows
from msr_models.training.chain import DayPlan, split_days
from msr_models.training.target_data import ReadOptions, load_target_data
from schemas.commands import command
from schemas.dataset_spec import DatasetSpec
from schemas.errors import TrainingError


def lake_split(dataset: DatasetSpec, ds: date | None, name: str, *, rows: int | None = None) -> Split:
    """The split of `ds` (None: the newest published day) in memory; rows: at most this many training rows.

    Raises TrainingError if features of days before it are missing.
    """
    ds = ds or max(lake_reader.published_days(dataset, "scenario_features"), default=None)
    days = None if ds is None else split_days(dataset, ds)
    if ds is None or days is None:
        build = command("build_scenario_features", dataset, "--from .. --to ..")
        raise TrainingError(
            f"{name}: {ds or 'no day'} lacks some of the {dataset.training.window_days} days with features before it "
            f"(the first is {dataset.first_feature_day}); build them: {build}, or give ds=YYYY-MM-DD of a later day"
        )
    plan = DayPlan(ds=ds, train_days=days[0], validation_days=days[1], predecessor=None)
    with load_target_data(dataset, plan, None, ReadOptions(loading="resident")) as data:
        window = data.validation.window
        train = select_rows(window, _evenly(window.counted(window.rows_of(plan.train_days)), rows))
        validation = select_rows(window, data.validation.rows)
        return Split(
            name=name,
            train=train,
            validation=validation,
            test=data.test.window,
            shareable_N=_truth(dataset, train) if dataset.source.adapter == "generated" else None,
        )


def _evenly(rows_N: Tensor, wanted: int | None) -> Tensor:
    """At most `wanted` of these positions, evenly spaced and in their order: the same ones in every run."""
    if wanted is None or wanted >= len(rows_N):
        return rows_N
    return rows_N[torch.arange(wanted) * len(rows_N) // wanted]


def _truth(dataset: DatasetSpec, window: Window) -> NDArray[np.bool_] | None:
    """Whether each row is shareable according to the generator; None if generated_truth does not exist."""
    if not lake_reader.table_exists(dataset, "generated_truth"):
        return None
    shareable_N = np.zeros(len(window), dtype=np.bool_)
    for index, ds in enumerate(window.days):
        here = np.flatnonzero(window.day_N.numpy() == index)
        if not len(here):
            continue
        columns = ["instance_id", "is_shareable"]
        truth = lake_reader.read_table(dataset, "generated_truth", columns=columns, days=[ds])
        truth = truth.take(pc.sort_indices(truth["instance_id"]))
        place = find_in(_numpy(truth["instance_id"]), window.instance_id_N.numpy()[here])
        if (place < 0).any():
            ingest = command("ingest_impressions", dataset, f"--ds {ds}")
            raise TrainingError(f"generated_truth of {dataset.name} lacks rows of {ds}; run: {ingest}")
        shareable_N[here] = _numpy(truth["is_shareable"])[place]
    return shareable_N


def _numpy(column: Any) -> NDArray[Any]:
    values: NDArray[Any] = column.to_numpy()
    return values
