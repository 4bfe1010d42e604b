"""A Spark Connect server, which `make demo` uses, makes the same tables as an engine in the step's own process."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import date
from pathlib import Path

import pytest

from jobs import ingest_impressions
from jobs.hash_tables import hash_lake
from tests.support.changing_log import DAYS, HEADER, ROWS, build, changed, load, rows_of, write_log
from tests.support.steps import run_step

pytestmark = [pytest.mark.slow, pytest.mark.spark, pytest.mark.usefixtures("spark")]

ROOT = Path(__file__).resolve().parents[2]
TABLES = ("impressions", "quarantine", "vocabularies", "behaviour_sequences", "scenario_features")
WAIT_SECONDS = 90


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """The address of a server of the test's own."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    run = ["scripts/spark_connect.sh", "run"]
    environment = os.environ | {"MSR_SPARK_CONNECT_PORT": str(port), "MSR_VENV": str(Path(sys.prefix))}
    started = subprocess.Popen(run, cwd=ROOT, env=environment, start_new_session=True, stdout=subprocess.DEVNULL)
    try:
        _wait_for(port)
        yield f"sc://127.0.0.1:{port}"
    finally:
        os.killpg(started.pid, signal.SIGTERM)
        started.wait()


def test_a_server_makes_the_same_tables(
    server: str, lake: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_log(tmp_path)
    days = DAYS[:3]
    dataset = load(tmp_path)
    build(dataset, days)
    expected = list(hash_lake(dataset, TABLES, []))
    monkeypatch.setenv("MSR_LAKE_ROOT", str(tmp_path / "served"))
    for step, first in (("ingest_impressions", days[0]), ("build_scenario_features", days[1])):
        _run(server, step, tmp_path, first, days[-1])
    assert list(hash_lake(dataset, TABLES, [])) == expected


def test_a_server_makes_the_same_days_of_one_file(
    server: str, lake: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "log").mkdir()
    rows = [row for ds in DAYS for row in rows_of(ds)]
    (tmp_path / "log" / "all.csv").write_text("\n".join([HEADER, *rows, ""]), encoding="utf-8")
    dataset = load(tmp_path, changed(lambda raw: raw["source"].update(path="log/all.csv")))
    days = DAYS[:2]
    run_step(ingest_impressions, dataset, *days)
    expected = list(hash_lake(dataset, ["impressions"], []))
    monkeypatch.setenv("MSR_LAKE_ROOT", str(tmp_path / "served"))
    told = _run(server, "ingest_impressions", tmp_path, days[0], days[-1])
    assert list(hash_lake(dataset, ["impressions"], [])) == expected
    assert f"{2 * ROWS} rows of" in told and "outside the days asked for" in told


def _run(server: str, step: str, folder: Path, first: date, last: date) -> str:
    """What a step prints that runs on the server."""
    words = ["--dataset", str(folder / "changing.yaml"), "--from", str(first), "--to", str(last)]
    done = subprocess.run(
        [sys.executable, "-m", f"jobs.{step}", *words],
        cwd=ROOT,
        env=os.environ | {"SPARK_REMOTE": server},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def _wait_for(port: int) -> None:
    give_up = time.monotonic() + WAIT_SECONDS
    while time.monotonic() < give_up:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError:
            time.sleep(0.5)
    raise AssertionError(f"no server on port {port} after {WAIT_SECONDS} s")
