"""The operator with real child processes: what each exit code does to the task, and that nothing is left running."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

RunPython = Callable[..., str]
Case = dict[str, object]
Results = dict[str, tuple[str, str]]

STEP = """
import os, sys
print("rows in 10 = published 9 + quarantined 1")
print(os.environ.get("SPARK_REMOTE"), os.environ.get("MSR_SPARK_MASTER"), *sys.argv[1:])
if CODE:
    print("impressions: label 2 is neither 0 nor 1; fix the log", file=sys.stderr)
sys.exit(CODE)
"""

RUN = """
import json, os
from airflow.sdk.exceptions import AirflowFailException
from msr_dags.step_operator import StepOperator

results = {}
for name, case in CASES.items():
    os.environ.pop("AIRFLOW_CONN_SPARK_DEFAULT", None)
    if case["connection"]:
        os.environ["AIRFLOW_CONN_SPARK_DEFAULT"] = json.dumps(case["connection"])
    operator = StepOperator(task_id="t", step=case["step"], dataset="generated", engine=case["engine"], ds=case["ds"])
    try:
        results[name] = ["ok", operator.run_step()]
    except Exception as error:
        results[name] = ["final" if isinstance(error, AirflowFailException) else "retry", str(error)]
print(json.dumps(results))
"""


def case(step: str = "exit_0", engine: str = "arrow", ds: str = "2026-01-03", connection: object = None) -> Case:
    return {"step": step, "engine": engine, "ds": ds, "connection": connection}


def spark(host: str, **more: object) -> dict[str, object]:
    return {"conn_type": "spark", "host": host, **more}


CONNECT = {"conn_type": "spark_connect", "host": "10.1.2.3", "port": 15002}
CASES = {
    **{f"exit {code}": case(f"exit_{code}") for code in (0, 1, 2, 3, 7)},
    "no day": case(ds=""),
    "connect": case(engine="spark", connection=CONNECT),
    "local": case(engine="spark", connection=spark("local[*]")),
    "cluster": case("exit_2", engine="spark", connection=spark("spark://master", port=7077)),
    "arrow step": case(connection=CONNECT),
    "not spark": case(engine="spark", connection={"conn_type": "http", "host": "x"}),
    "cluster mode": case(engine="spark", connection=spark("yarn", extra={"deploy-mode": "cluster"})),
}


@pytest.fixture(scope="module")
def results(run_python: RunPython, tmp_path_factory: pytest.TempPathFactory) -> Results:
    """Each case's real step in a real child process, all from one process that has imported Airflow."""
    project = tmp_path_factory.mktemp("project")
    (project / "jobs").mkdir()
    (project / "jobs" / "__init__.py").touch()
    for code in (0, 1, 2, 3, 7):
        (project / "jobs" / f"exit_{code}.py").write_text(STEP.replace("CODE", str(code)))
    # A spark-submit beside the steps' interpreter that only prints its arguments: there is no cluster here
    (project / "bin").mkdir()
    (project / "bin" / "python").symlink_to(sys.executable)
    submit = project / "bin" / "spark-submit"
    submit.write_text('#!/bin/sh\necho "submitted to $2: $(basename "$3") $4 $5"\nexit 2\n')
    submit.chmod(0o755)
    # An address in the scheduler's own environment must not reach a step past the connection
    stray = {"MSR_PROJECT_DIR": str(project), "SPARK_REMOTE": "sc://elsewhere:1"}
    stray["MSR_STEP_PYTHON"] = str(project / "bin" / "python")
    out = run_python(RUN.replace("CASES", repr(CASES)), **stray)
    return {name: (kind, text) for name, (kind, text) in json.loads(out.splitlines()[-1]).items()}


def test_exit_0_is_success_and_the_step_gets_dataset_and_day(results: Results) -> None:
    assert results["exit 0"] == ("ok", "None None --dataset generated --ds 2026-01-03")


@pytest.mark.parametrize(("code", "expected"), [(1, "retry"), (2, "final"), (3, "final"), (7, "retry")])
def test_exit_codes_2_and_3_fail_at_once_and_others_are_retried(results: Results, code: int, expected: str) -> None:
    kind, text = results[f"exit {code}"]
    assert kind == expected
    assert f"exit_{code} exit {code}: impressions: label 2 is neither 0 nor 1; fix the log" in text


def test_a_run_without_a_day_names_the_parameter(results: Results) -> None:
    kind, text = results["no day"]
    assert kind == "final" and "ds=YYYY-MM-DD" in text


@pytest.mark.parametrize(
    ("name", "engine"),
    [
        ("connect", "sc://10.1.2.3:15002/ None"),
        ("local", "None local[*]"),
        ("arrow step", "None None"),
    ],
)
def test_the_spark_connection_alone_decides_the_engine(results: Results, name: str, engine: str) -> None:
    assert results[name] == ("ok", f"{engine} --dataset generated --ds 2026-01-03")


def test_a_clusters_master_goes_through_spark_submit_and_keeps_the_exit_code(results: Results) -> None:
    kind, text = results["cluster"]
    assert kind == "final" and "submitted to spark://master:7077: exit_2.py --dataset generated" in text


@pytest.mark.parametrize(
    ("name", "remedy"), [("not spark", "type 'http' is not Spark"), ("cluster mode", "use client")]
)
def test_a_connection_that_cannot_work_is_refused_with_a_remedy(results: Results, name: str, remedy: str) -> None:
    kind, text = results[name]
    assert kind == "final" and remedy in text


def test_torchrun_only_for_several_processes(run_python: RunPython) -> None:
    script = "from msr_dags.step_operator import step_launch; print(*step_launch('train_target_model', 'torch')[0][1:])"
    assert run_python(script).strip() == "-m jobs.train_target_model"
    several = run_python(script, MSR_NPROC_PER_NODE="2").strip()
    assert several == "-m torch.distributed.run --standalone --nproc-per-node=2 -m jobs.train_target_model"


def test_the_failure_line_names_dag_task_day_and_reason(run_python: RunPython, tmp_path: Path) -> None:
    script = """
from types import SimpleNamespace as S
from msr_dags.failures import log_failure
ti = S(dag_id="daily_features", task_id="ingest_impressions", map_index=-1, try_number=1)
run = S(partition_key="2026-01-03", run_id="r")
log_failure(dict(ti=ti, dag_run=run, exception=ValueError("ingest exit 2: label 2\\n is wrong")))
"""
    log = tmp_path / "failures.log"
    run_python(script, MSR_FAILURES_LOG=str(log))
    expected = "daily_features ingest_impressions 2026-01-03 failed on attempt 1: ingest exit 2: label 2 is wrong\n"
    assert log.read_text().endswith(expected)


HOLD = """
import sys, threading, time
from pathlib import Path
from msr_dags.child import Child
code = '''
import os, subprocess, time
grandchild = subprocess.Popen(["sleep", "60"])
print(os.getpid(), grandchild.pid, flush=True)
time.sleep(60)
'''
child = Child([sys.executable, "-c", code], cwd=Path("."), env={{}})
seen = []
thread = threading.Thread(target=child.run, args=(seen.append,), daemon=True)
thread.start()
while not seen:
    time.sleep(0.05)
print(seen[0], flush=True)
{then}
"""


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def wait_until_gone(pids: list[int]) -> list[int]:
    limit = time.monotonic() + 10
    while time.monotonic() < limit and any(map(is_alive, pids)):
        time.sleep(0.1)
    return [pid for pid in pids if is_alive(pid)]


def test_stopping_a_child_ends_all_that_it_started(run_python: RunPython) -> None:
    pids = [int(p) for p in run_python(HOLD.format(then="child.stop()")).split()]
    assert len(pids) == 2 and wait_until_gone(pids) == []


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the parent-death signal is Linux's")
def test_a_child_does_not_outlive_a_task_that_is_killed(airflow_environment: dict[str, str]) -> None:
    # The child is started from the main thread: the kernel ties the signal to the thread that forks.
    script = """
import sys
from pathlib import Path
from msr_dags.child import Child
code = "import os, time; print(os.getpid(), flush=True); time.sleep(60)"
Child([sys.executable, "-c", code], cwd=Path("."), env={}).run(lambda line: print(line, flush=True))
"""
    task = subprocess.Popen([sys.executable, "-c", script], env=airflow_environment, stdout=subprocess.PIPE, text=True)
    assert task.stdout is not None
    pid = int(task.stdout.readline())
    assert is_alive(pid)
    os.kill(task.pid, signal.SIGKILL)
    task.wait()
    assert wait_until_gone([pid]) == []


RENDER = """
import datetime, json
from zoneinfo import ZoneInfo
from types import SimpleNamespace
from jinja2 import Template
from msr_dags.step_operator import RUN_DAY, RUN_DAY_OR_TODAY

def day(template, ds=None, key=None, logical=None):
    at = datetime.datetime.fromisoformat(logical) if logical else None
    late = datetime.datetime(2026, 1, 6, 23, tzinfo=datetime.UTC)
    run = SimpleNamespace(partition_key=key, logical_date=at, run_after=late)
    return Template(template).render(params={"ds": ds}, dag_run=run, days_zone=ZoneInfo("Europe/Berlin"))

print(json.dumps([[day(template, **case) for case in CASES] for template in (RUN_DAY, RUN_DAY_OR_TODAY)]))
"""


def test_the_day_of_a_run_is_its_parameter_its_partition_or_a_whole_logical_date(
    run_python: RunPython,
) -> None:
    midnight, clicked = "2026-01-05T00:00:00+00:00", "2026-01-06T10:11:12.131415+00:00"
    cases = [
        {"ds": "2026-01-03", "key": "2026-01-04", "logical": midnight},
        {"key": "2026-01-04", "logical": clicked},
        {"logical": midnight},
        {"logical": clicked},
        {},
    ]
    days, days_or_today = json.loads(run_python(RENDER.replace("CASES", repr(cases))).splitlines()[-1])
    assert days == ["2026-01-03", "2026-01-04", "2026-01-05", "", ""]
    assert days_or_today == ["2026-01-03", "2026-01-04", "2026-01-05", "2026-01-07", "2026-01-07"]
