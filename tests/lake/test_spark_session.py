"""Which engine a process gets: an empty SPARK_REMOTE is none."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
CODE = "from lake.spark_session import get_session; print('rows', get_session('t').range(3).count())"


@pytest.mark.spark
@pytest.mark.slow
def test_an_empty_address_means_a_local_engine() -> None:
    environment = {**os.environ, "SPARK_REMOTE": ""}
    done = subprocess.run(
        [sys.executable, "-c", CODE], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert "rows 3" in done.stdout, done.stderr[-2000:]
