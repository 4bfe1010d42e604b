"""A run that is trained again from its manifest, whatever the data set's settings are by then."""

from __future__ import annotations

from datetime import date, timedelta
from functools import partial
from pathlib import Path

import pytest

from msr_models.data.streamed import open_streamed_rows
from msr_models.training import target_data
from msr_models.training.recorded_runs import recorded_runs
from msr_models.training.repeat import repeat_run
from tests.support.steps import train
from tests.support.tiny_lake import tiny_dataset, write_tiny_lake

DAYS = [date(2026, 1, 2) + timedelta(days=n) for n in range(4)]
TRAINING = {"window_days": 3, "batch_size": 64, "max_epochs": 1, "loading": "streamed"}


def test_a_streamed_run_is_repeated_with_the_settings_of_its_manifest(
    lake: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(target_data, "open_streamed_rows", partial(open_streamed_rows, bucket_rows=100))
    spec = tiny_dataset(training=TRAINING | {"seed": 1})
    write_tiny_lake(spec, DAYS, rows_per_day=200)
    train(spec, DAYS[3])
    (run,) = recorded_runs(spec, DAYS[3], "shared_bottom")
    later = tiny_dataset(training=TRAINING | {"seed": 2, "rank_scope": "scenario", "learning_rate": 0.1})
    repeat_run(later, run.manifest)
    assert f"{run.manifest.run_id}: the same metrics" in caplog.text
