"""What all arms of a day read: training rows in memory or streamed from disk, validation and test rows in memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from types import TracebackType
from typing import Any

import torch

from msr_models.data.layout import FieldLayout
from msr_models.data.memory import LoadingMode, available_memory, choose_mode, window_bytes
from msr_models.data.sampling import sample_negatives
from msr_models.data.source import ResidentRows
from msr_models.data.streamed import StreamedRows, open_streamed_rows
from msr_models.data.window import Window, load_window
from msr_models.training.chain import DayPlan
from schemas.dataset_spec import DatasetSpec
from schemas.errors import TrainingError
from schemas.negative_sampling import kept_shares
from schemas.pipeline_spec import Loading, RankScope
from schemas.text import short_digest

# A window stays in the host's memory, and its batches travel, where it would take more of a GPU's than this.
GPU_SHARE = 0.5


@dataclass(frozen=True, kw_only=True, slots=True)
class TargetData:
    """A context manager: leaving it removes what was streamed to disk. fingerprints: of `window` (training and
    validation rows), `masks` and `test`.
    """

    dataset: DatasetSpec
    plan: DayPlan
    shared_set_id: str | None
    rank_scope: RankScope
    loading: LoadingMode
    training: ResidentRows | StreamedRows
    validation: ResidentRows
    test: ResidentRows
    layout: FieldLayout
    vocabulary_version: str
    table_versions: Mapping[str, int]
    fingerprints: Mapping[str, str | None]

    def __enter__(self) -> TargetData:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(self.training, StreamedRows):
            self.training.close()

    def training_rows(self, ratio: float) -> ResidentRows | StreamedRows:
        """The training rows with the share `ratio` of the set's rows shared."""
        return self.training.with_ratio(ratio) if ratio > 0 else self.training


@dataclass(frozen=True, kw_only=True, slots=True)
class ReadOptions:
    """versions: Delta versions to pin, of window and test (None: the newest); seed: orders streamed rows; rank_scope,
    loading, negative_sampling: as in the block `training`; processes: on this machine, each of which holds its own
    copy.
    """

    versions: tuple[dict[str, int], dict[str, int]] | None = None
    seed: int = 1
    rank_scope: RankScope = "global"
    loading: Loading = "auto"
    device: str = "cpu"
    processes: int = 1
    negative_sampling: Any = None


def load_target_data(
    dataset: DatasetSpec, plan: DayPlan, shared_set_id: str | None, options: ReadOptions
) -> TargetData:
    """Read the window (ranks for the training days only) and the test day.

    Raises TrainingError where there is nothing to train on from scratch, to validate or to test, or no memory for it.
    """
    pinned = options.versions[0] if options.versions else None
    mode = _mode(dataset, plan, options, pinned)
    if mode == "streamed":
        return _streamed(dataset, plan, shared_set_id, options, pinned)
    window = load_window(
        dataset,
        [*plan.train_days, *plan.validation_days],
        shared_set_id=shared_set_id,
        mask_days=plan.train_days,
        rank_scope=options.rank_scope,
        versions=pinned,
    )
    # A day that goes on from another may have nothing new: it keeps the weights.
    for days in [plan.validation_days] if plan.predecessor else [plan.train_days, plan.validation_days]:
        _require_rows(window, days)
    test = _test_window(dataset, plan, options, window.table_versions)
    fingerprints = {"window": window.fingerprint, "masks": window.mask_fingerprint, "test": test.fingerprint}
    window = _on_device(window, options.device)
    rows, kept = window.counted(window.rows_of(plan.train_days)), _negatives_kept(dataset, options)
    if kept is not None:
        rows = sample_negatives(window, rows, kept, options.seed)
    return TargetData(
        dataset=dataset,
        plan=plan,
        shared_set_id=shared_set_id,
        rank_scope=options.rank_scope,
        loading="resident",
        training=ResidentRows(window, rows, kept),
        validation=ResidentRows(window, window.rows_of(plan.validation_days)),
        test=_all_rows(_on_device(test, options.device)),
        layout=window.layout,
        vocabulary_version=window.vocabulary_version,
        table_versions=window.table_versions,
        fingerprints=fingerprints,
    )


def _mode(dataset: DatasetSpec, plan: DayPlan, options: ReadOptions, versions: Mapping[str, int] | None) -> LoadingMode:
    if not plan.train_days:
        return "resident"
    memory_gb = dataset.training.memory_gb
    days = [*plan.train_days, *plan.validation_days, plan.ds]
    needed = options.processes * window_bytes(dataset, days, versions=versions)
    return choose_mode(options.loading, needed, available_memory(memory_gb))


def _streamed(
    dataset: DatasetSpec,
    plan: DayPlan,
    shared_set_id: str | None,
    options: ReadOptions,
    versions: Mapping[str, int] | None,
) -> TargetData:
    """Training rows through buckets on disk; validation and test have to fit into memory."""
    held_out = options.processes * window_bytes(dataset, [*plan.validation_days, plan.ds], versions=versions)
    choose_mode("resident", held_out, available_memory(dataset.training.memory_gb))
    training = open_streamed_rows(
        dataset,
        plan.train_days,
        seed=options.seed,
        shared_set_id=shared_set_id,
        rank_scope=options.rank_scope,
        versions=versions,
        known_on=plan.validation_days[-1],
        memory_gb=dataset.training.memory_gb,
        negatives_kept=_negatives_kept(dataset, options),
    )
    try:
        facts = training.facts
        validation = load_window(dataset, plan.validation_days, versions=facts.table_versions)
        _require_rows(validation, plan.validation_days)
        test = _test_window(dataset, plan, options, facts.table_versions)
    except BaseException:  # also on Ctrl-C: the buckets lie on disk
        training.close()
        raise
    both = short_digest(f"{facts.fingerprint} {validation.fingerprint}")
    return TargetData(
        dataset=dataset,
        plan=plan,
        shared_set_id=shared_set_id,
        rank_scope=options.rank_scope,
        loading="streamed",
        training=training,
        validation=_all_rows(_on_device(validation, options.device)),
        test=_all_rows(_on_device(test, options.device)),
        # The validation days come last, so their vocabulary is the newest of the window.
        layout=validation.layout,
        vocabulary_version=validation.vocabulary_version,
        table_versions=facts.table_versions,
        fingerprints={"window": both, "masks": facts.mask_fingerprint, "test": test.fingerprint},
    )


def _negatives_kept(dataset: DatasetSpec, options: ReadOptions) -> tuple[float, ...] | None:
    return kept_shares(options.negative_sampling, dataset.scenario.names)


def _test_window(
    dataset: DatasetSpec, plan: DayPlan, options: ReadOptions, window_versions: Mapping[str, int]
) -> Window:
    """Read from the window's table versions, so that one manifest names one state of the lake."""
    versions = options.versions[1] if options.versions else window_versions
    return load_window(dataset, [plan.ds], versions=versions, known_on=plan.validation_days[-1])


def _all_rows(window: Window) -> ResidentRows:
    return ResidentRows(window, torch.arange(len(window), device=window.label_N.device))


def _on_device(window: Window, device: str) -> Window:
    """The window on a GPU where it takes a fair part of its memory at most, else where it is."""
    if not device.startswith("cuda"):
        return window
    free, _ = torch.cuda.mem_get_info(device)
    return window.to(device) if window.num_bytes < GPU_SHARE * free else window


def _require_rows(window: Window, days: Sequence[date]) -> None:
    if not len(window.rows_of(days)):
        raise TrainingError(
            f"{window.dataset_name} has no impressions in {days[0]} .. {days[-1]}: nothing to train on or to validate "
            "with; take more days: training.window_days and training.validation_days of the data set"
        )
