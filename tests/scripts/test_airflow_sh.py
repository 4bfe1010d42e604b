"""scripts/airflow.sh up refuses to reuse an Airflow that runs for another data set or other models."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    """Airflow home with a scheduler (a sleeping process) that is up for data set `generated` with models `star`."""
    bin_dir = tmp_path / "venv" / "bin"
    bin_dir.mkdir(parents=True)
    (bin_dir / "airflow").write_text("#!/bin/sh\nexit 1\n")
    (bin_dir / "airflow").chmod(0o755)
    run_dir = tmp_path / "run"
    run_dir.mkdir()
    sleeper = subprocess.Popen(["sleep", "60"])
    started = Path(f"/proc/{sleeper.pid}/stat").read_text().rpartition(") ")[2].split()[19]
    (run_dir / "scheduler.pid").write_text(f"{sleeper.pid} {started}\n")
    (run_dir / "dataset").write_text("generated\n")
    (run_dir / "models").write_text("star\n")
    yield tmp_path
    sleeper.kill()
    sleeper.wait()


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        (
            {"MSR_DATASET": "movielens_age", "MSR_MODELS": "star"},
            "is running for data set generated, not movielens_age",
        ),
        ({"MSR_MODELS": "all"}, "is running with models 'star', not 'all'"),
        ({}, "is running with models 'star', not ''"),
    ],
)
def test_up_for_something_else_is_refused(environment: dict[str, str], message: str, home: Path) -> None:
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("MSR_", "AIRFLOW"))}
    # If it went on all the same: no engine, and an Airflow that exits at once
    harmless = {"AIRFLOW_CONN_SPARK_DEFAULT": "spark://", "MSR_VENV": str(home / "venv")}
    env = {**kept, **harmless, "MSR_AIRFLOW_HOME": str(home), "MSR_AIRFLOW_PORT": "1", **environment}
    done = subprocess.run(
        ["scripts/airflow.sh", "up"], cwd=ROOT, env=env, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 2 and message in done.stderr and "make down" in done.stderr
    assert (home / "run" / "models").read_text() == "star\n"
