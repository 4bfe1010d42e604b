"""The whole pipeline on a real scheduler: backfill the features, search, train on the last days, evaluate, report.

demo.py [--dataset NAME] [--models all|NAME,..] [--train-days N]: uses the Airflow that runs for this data set, or
starts one and stops it at the end. Days that exist already are built again, which does not change the tables.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections import Counter, defaultdict
from datetime import date, timedelta
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "dags"), str(ROOT / "scripts")]

import get_movielens  # noqa: E402  (needs the path set above)
from airflow_api import OPEN_STATES, AirflowApi  # noqa: E402  (needs the path set above)

from msr_dags.settings import Deployment, load_deployment  # noqa: E402  (needs the path set above)
from schemas.errors import DatasetSpecError  # noqa: E402  (needs the path set above)

FEATURES, TRAINING, SEARCH = "daily_features", "daily_training", "shared_instance_search"
POLL_S = 2.0
QUIET_LINE_EVERY_S = 20.0
# Give up when no task has finished for this long
PHASE_LIMIT_S = 3600.0


class DemoFailed(Exception):
    """The demo cannot continue; the message says why."""


class StatusLine:
    """Progress as one line, rewritten in place on a terminal; in a file, a new line every 20 seconds at most."""

    def __init__(self) -> None:
        self._start = time.monotonic()
        self._last_print = 0.0
        self._last_text = ""

    def show(self, text: str, *, final: bool = False) -> None:
        """Show `text` after the elapsed time; `final` keeps the line."""
        seconds = int(time.monotonic() - self._start)
        line = f"[{seconds // 60:02d}:{seconds % 60:02d}] {text}"
        if sys.stdout.isatty():
            print(f"\r\033[K{line[:160]}", end="\n" if final else "", flush=True)
        elif final or (text != self._last_text and time.monotonic() - self._last_print >= QUIET_LINE_EVERY_S):
            print(line, flush=True)
            self._last_print, self._last_text = time.monotonic(), text


def airflow_sh(*arguments: str, show: bool = False) -> None:
    """Run scripts/airflow.sh. Raises DemoFailed with its output."""
    done = subprocess.run(["scripts/airflow.sh", *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        output = f"{done.stdout[-3000:]}{done.stderr[-3000:]}"
        raise DemoFailed(f"scripts/airflow.sh {' '.join(arguments)}: exit {done.returncode}\n{output}")
    if show:
        print(done.stdout, end="", flush=True)


def prepare_data(deployment: Deployment) -> None:
    """Fetch the MovieLens files if the data set reads them and they are missing."""
    source = deployment.spec.source
    folder = Path(os.environ.get("MSR_DATA_DIR") or "data") / "ml-1m"
    is_read = source.adapter == "movielens" and Path(str(source.path)).absolute() == folder.absolute()
    if is_read and not get_movielens.is_complete(folder):
        print(f"fetching MovieLens-1M into {folder}")
        get_movielens.fetch(folder)


def wait_for_dags(api: AirflowApi, line: StatusLine) -> None:
    """Wait until Airflow has parsed the DAGs, then end runs that an interrupted demo left open. Raises DemoFailed."""
    limit = time.monotonic() + 120
    while not all(api.has_dag(dag) for dag in (FEATURES, TRAINING, SEARCH)):
        if errors := api.import_errors():
            raise DemoFailed("\n".join(errors))
        if time.monotonic() > limit:
            raise DemoFailed("Airflow has not parsed the DAGs in two minutes; see .airflow/*/logs/dag-processor.log")
        line.show("waiting for Airflow to parse the DAGs")
        time.sleep(1)
    if ended := api.end_open_work([FEATURES, TRAINING, SEARCH]):
        line.show(f"ended {ended} runs that an interrupted demo left open", final=True)


def partition_keys(first: date, last: date) -> set[str]:
    """The days of [first, last] as partition keys."""
    return {str(first + timedelta(days=n)) for n in range((last - first).days + 1)}


def backfill(api: AirflowApi, first: date, last: date, line: StatusLine) -> list[dict[str, Any]]:
    """Backfill the features of [first, last] with Airflow's own command, wait for the runs and return them."""
    old = {r["dag_run_id"] for r in api.dag_runs(FEATURES)}
    line.show(f"airflow backfill create --dag-id {FEATURES} --from-date {first} --to-date {last}", final=True)
    # fmt: off
    airflow_sh("cli", "backfill", "create", "--dag-id", FEATURES, "--from-date", str(first), "--to-date", str(last),
               "--max-active-runs", "2", "--reprocess-behavior", "completed")
    # fmt: on
    runs = wait_for_runs(api, FEATURES, partition_keys(first, last), old, line)
    api.close_backfills(FEATURES)
    return runs


def wait_for_runs(
    api: AirflowApi, dag_id: str, keys: set[str], old: set[str], line: StatusLine
) -> list[dict[str, Any]]:
    """Wait until every partition of `keys` has a finished run of `dag_id` that is not in `old`. Raises DemoFailed."""
    limit, ended = time.monotonic() + PHASE_LIMIT_S, 0
    while True:
        runs = [r for r in api.dag_runs(dag_id) if r["partition_key"] in keys and r["dag_run_id"] not in old]
        tasks = [t for r in runs if r["state"] != "queued" for t in api.task_instances(dag_id, r["dag_run_id"])]
        line.show(_progress(dag_id, keys, runs, tasks))
        if failed := [r for r in runs if r["state"] == "failed"]:
            raise DemoFailed(f"{dag_id} failed for {', '.join(r['partition_key'] for r in failed)}")
        if {r["partition_key"] for r in runs} == keys and not any(r["state"] in OPEN_STATES for r in runs):
            line.show(f"{dag_id}: {len(keys)} days done", final=True)
            return runs
        if (now_ended := sum(t.get("end_date") is not None for t in tasks)) != ended:
            limit, ended = time.monotonic() + PHASE_LIMIT_S, now_ended
        if time.monotonic() > limit:
            raise DemoFailed(f"{dag_id}: no task finished for {PHASE_LIMIT_S / 60:.0f} minutes; see .airflow/*/logs")
        time.sleep(POLL_S)


def _progress(dag_id: str, keys: set[str], runs: list[dict[str, Any]], tasks: list[dict[str, Any]]) -> str:
    done_days = sum(r["state"] == "success" for r in runs)
    states = Counter(t["state"] or "waiting" for t in tasks)
    day_of = {r["dag_run_id"]: r["partition_key"] for r in runs}
    running = sorted(f"{t['task_id']} {day_of[t['dag_run_id']]}" for t in tasks if t["state"] == "running")
    retried = [f"{t['task_id']} is retried" for t in tasks if t["state"] == "up_for_retry"]
    counts = f"{states['success']} tasks done" + (f", {states['skipped']} skipped" if states["skipped"] else "")
    return f"{dag_id}: {done_days} of {len(keys)} days, {counts}; running: {', '.join([*running, *retried]) or '-'}"


def wall_times(api: AirflowApi, runs: list[tuple[str, dict[str, Any]]]) -> list[str]:
    """A table with the number of task runs per step and the mean and sum of their wall times in seconds."""
    seconds: dict[tuple[str, str], list[float]] = defaultdict(list)
    tasks = [
        t for dag_id, run in runs for t in api.task_instances(dag_id, run["dag_run_id"]) if t["state"] == "success"
    ]
    for task in sorted(tasks, key=lambda t: str(t["start_date"])):
        seconds[task["dag_id"], task["task_id"]].append(task["duration"] or 0.0)
    lines = [f"{'DAG':<24}{'step':<28}{'runs':>5}{'mean s':>9}{'sum s':>9}"]
    for (dag_id, task_id), values in seconds.items():
        lines.append(f"{dag_id:<24}{task_id:<28}{len(values):>5}{sum(values) / len(values):>9.1f}{sum(values):>9.1f}")
    return lines


def report_summary(api: AirflowApi, runs: list[dict[str, Any]]) -> list[str]:
    """Output of the last day's report step."""
    last = max(runs, key=lambda r: r["partition_key"])
    tasks = [t for t in api.task_instances(TRAINING, last["dag_run_id"]) if t["task_id"] == "report"]
    if not tasks or tasks[0]["state"] != "success":
        return [f"no report: too few days before {last['partition_key']} to train on"]
    # The first line is the command
    return api.log_lines(TRAINING, last["dag_run_id"], "report", tasks[0]["try_number"])[1:]


def run_demo(deployment: Deployment, train_days: int) -> None:
    """Backfill all days, train on the last `train_days`, and print wall times and the report's summary."""
    first, last = deployment.spec.days.start, deployment.spec.days.end
    if last is None:
        raise DemoFailed(f"{deployment.dataset}: days.end is not set; set it: the demo needs a fixed range of days")
    start, line = time.monotonic(), StatusLine()
    api = AirflowApi(int(os.environ.get("MSR_AIRFLOW_PORT", "8080")))
    wait_for_dags(api, line)
    first_trained = max(first, last - timedelta(days=train_days - 1))
    feature_runs = []
    api.pause(FEATURES, False)
    api.pause(SEARCH, False)
    # A paused DAG ignores assets: only the last days' features trigger training
    api.pause(TRAINING, True)
    if first_trained > first:
        feature_runs += backfill(api, first, first_trained - timedelta(days=1), line)
    api.pause(TRAINING, False)
    old = {r["dag_run_id"] for r in api.dag_runs(TRAINING)}
    old_searches = {r["dag_run_id"] for r in api.dag_runs(SEARCH)}
    feature_runs += backfill(api, first_trained, last, line)
    features_s = time.monotonic() - start
    training_runs = wait_for_runs(api, TRAINING, partition_keys(first_trained, last), old, line)
    searches = [r for r in api.dag_runs(SEARCH) if r["dag_run_id"] not in old_searches]
    all_runs = [(FEATURES, r) for r in feature_runs]
    all_runs += [(SEARCH, r) for r in searches] + [(TRAINING, r) for r in training_runs]
    print("\n" + "\n".join(wall_times(api, all_runs)))
    total_s = time.monotonic() - start
    rest_s = total_s - features_s
    print(f"wall time: features {features_s:.0f} s, search to report {rest_s:.0f} s, total {total_s:.0f} s\n")
    print("\n".join(report_summary(api, training_runs)))


def main() -> int:
    """Parse the command line, start Airflow if it is not running, run the demo and stop what was started."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", default="generated", help="name or path of a YAML (default: generated)")
    parser.add_argument("--models", help="target models, separated by commas, or all (default: the YAML's)")
    parser.add_argument("--train-days", type=int, default=3, help="number of last days to train on (default: 3)")
    arguments = parser.parse_args()
    if arguments.train_days < 1:
        parser.error(f"--train-days {arguments.train_days}: must be 1 or more")
    # The scheduler and its steps run there too: a relative path means the same file everywhere
    os.chdir(ROOT)
    os.environ["MSR_DATASET"] = arguments.dataset
    if arguments.models:
        os.environ["MSR_MODELS"] = arguments.models
    started = False
    failures = Path(os.environ.get("MSR_AIRFLOW_HOME", ".airflow"), Path(arguments.dataset).stem, "failures.log")
    failures_before = failures.read_text().count("\n") if failures.exists() else 0
    try:
        deployment = load_deployment()
        prepare_data(deployment)
        started = subprocess.run(["scripts/airflow.sh", "is-up"], check=False).returncode != 0
        airflow_sh("up", show=True)
        run_demo(deployment, arguments.train_days)
        return 0
    except (DemoFailed, DatasetSpecError, OSError) as error:
        print(f"\ndemo: {error}", file=sys.stderr)
        if failures.exists():
            print("\n".join(failures.read_text().splitlines()[failures_before:]), file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\ndemo: stopped", file=sys.stderr)
        return 130
    finally:
        if started:
            airflow_sh("down", show=True)


if __name__ == "__main__":
    sys.exit(main())
