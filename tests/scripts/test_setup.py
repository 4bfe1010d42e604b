"""Set-up: one lock with hashes, clear messages for what is missing, and only processes that we started are ended."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import time
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.source_tree import ROOT, tracked_files

LOCK = (ROOT / "requirements.lock").read_text()
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
RunShell = Callable[[str], subprocess.CompletedProcess[str]]


def locked() -> dict[str, str]:
    return dict(re.findall(r"^([a-z0-9._-]+)==(\S+)", LOCK, flags=re.MULTILINE))


def test_every_locked_package_has_hashes_and_no_address() -> None:
    packages = re.split(r"\n(?=[a-z])", LOCK.strip())
    assert len(packages) == len(locked()) > 100
    assert all("--hash=sha256:" in package for package in packages)
    assert "://" not in LOCK and "--index" not in LOCK and "--find-links" not in LOCK


def test_the_lock_holds_what_the_project_requires() -> None:
    project = PROJECT["project"]
    extras = [requirement for extra in project["optional-dependencies"].values() for requirement in extra]
    pins = locked()
    for requirement in [*project["dependencies"], *extras]:
        match = re.match(r"([A-Za-z0-9-]+)(?:\[.*\])?(?:==([\d.]+)$)?", requirement)
        assert match, requirement
        name, exact = match.groups()
        assert name.lower() in pins, f"{requirement}: run make lock"
        assert exact is None or pins[name.lower()] == exact, f"{requirement}: run make lock"
    assert pins["pyspark"] == pins["pyspark-client"]


def test_an_installed_package_holds_every_tracked_file_of_its_rooms() -> None:
    setuptools = PROJECT["tool"]["setuptools"]
    rooms = [pattern.removesuffix("*") for pattern in setuptools["packages"]["find"]["include"]]
    data = setuptools["package-data"]
    packaged = {path for room in rooms for pattern in data.get(room, []) for path in (ROOT / room).glob(pattern)}
    tracked = tracked_files(*rooms)
    assert {path for path in tracked if path.suffix != ".py"} <= packaged
    without_init = {
        path.parent for path in tracked if path.suffix == ".py" and not (path.parent / "__init__.py").exists()
    }
    assert not without_init, "setuptools finds no package there"


def run_setup(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", "scripts/setup.sh", *arguments],
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_an_unknown_part_is_refused() -> None:
    done = run_setup("sparc")
    assert done.returncode == 2 and "unknown part 'sparc'" in done.stderr


def test_a_jar_folder_that_is_missing_or_empty_is_named(tmp_path: Path) -> None:
    missing = run_setup("spark", MSR_SPARK_JARS=str(tmp_path / "none"))
    assert missing.returncode == 2
    assert f"MSR_SPARK_JARS={tmp_path / 'none'}: no such folder" in missing.stderr
    empty = run_setup("spark", MSR_SPARK_JARS=str(tmp_path))
    assert empty.returncode == 2 and "no delta-spark_*.jar in it" in empty.stderr


def test_without_python_3_11_the_error_is_one_line(tmp_path: Path) -> None:
    tools = tmp_path / "bin"
    tools.mkdir()
    for tool in ("bash", "dirname", "cat", "sha256sum", "cut"):
        (tools / tool).symlink_to(shutil.which(tool) or tool)
    done = run_setup("train", PATH=str(tools), MSR_VENV=str(tmp_path / "venv"), MSR_PYTHON="")
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1 and "Python 3.11 was not found: install it" in done.stderr


def test_the_local_spark_profile_is_pairs_of_key_and_value() -> None:
    lines = (ROOT / "scripts" / "spark-local.conf").read_text().splitlines()
    pairs = [line.split(None, 1) for line in lines if line.strip() and not line.startswith("#")]
    assert all(len(pair) == 2 and pair[0].startswith("spark.") for pair in pairs)
    conf = dict(pairs)
    assert len(conf) == len(pairs), "duplicate key"
    assert conf["spark.sql.session.timeZone"] == "UTC"
    assert conf["spark.driver.bindAddress"] == conf["spark.driver.host"] == "127.0.0.1"


def ends(pid: int, seconds: float = 5.0) -> bool:
    """Whether a process is gone, or dead and only not yet collected, within some seconds."""
    limit = time.monotonic() + seconds
    while time.monotonic() < limit:
        try:
            if Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z":
                return True
        except FileNotFoundError:
            return True
        time.sleep(0.05)
    return False


@pytest.fixture
def processes(tmp_path: Path) -> RunShell:
    """Run shell lines with scripts/processes.sh sourced and pid files in a folder of the test."""

    def run(lines: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["bash", "-c", f"set -euo pipefail; source scripts/processes.sh; {lines}"],
            cwd=ROOT,
            env={**os.environ, "MSR_AIRFLOW_HOME": str(tmp_path)},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    return run


def test_a_started_process_is_found_and_ended(processes: RunShell, tmp_path: Path) -> None:
    done = processes(f"start_process nap {tmp_path}/nap.log sleep 60; pid_of nap; stop_process nap; ! pid_of nap")
    assert done.returncode == 0, done.stderr
    pid, message = done.stdout.splitlines()
    assert message == "stopped nap" and ends(int(pid))


def test_what_a_process_started_in_a_session_of_its_own_ends_with_it(processes: RunShell, tmp_path: Path) -> None:
    nested = f"bash -c 'trap \"\" TERM; setsid sleep 61 & echo $! > {tmp_path}/grandchild; wait'"
    wait = f"until [ -s {tmp_path}/grandchild ]; do sleep 0.1; done; sleep 0.3"
    done = processes(f"start_process nap {tmp_path}/nap.log {nested}; {wait}; stop_process nap 2")
    assert done.stdout == "stopped nap\n", done.stderr
    grandchild = int((tmp_path / "grandchild").read_text())
    assert ends(grandchild)


def test_a_number_that_belongs_to_another_process_is_left_alone(processes: RunShell, tmp_path: Path) -> None:
    other = subprocess.Popen(["sleep", "60"])
    try:
        (tmp_path / "run").mkdir()
        (tmp_path / "run" / "nap.pid").write_text(f"{other.pid} 1\n")
        done = processes("pid_of nap && exit 1; stop_process nap")
        assert done.returncode == 0 and done.stdout == ""
        assert other.poll() is None
        assert not (tmp_path / "run" / "nap.pid").exists()
    finally:
        other.kill()
        other.wait()
