"""Operators that run one step, `python -m jobs.<step> --dataset D --ds DAY`, as a process of its own."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from airflow.providers.standard.operators.branch import BaseBranchOperator
from airflow.sdk import BaseOperator
from airflow.sdk.exceptions import AirflowException, AirflowFailException, AirflowRescheduleException

from msr_dags.child import Child
from msr_dags.settings import project_dir, step_python
from schemas.engines import ENGINES, Engine

SPARK_CONNECTION = "spark_default"
# The day of the run: the parameter `ds` of a manual run, its partition key, or a logical date that is a whole day, as
# `airflow dags test DAG DAY` gives it (a run triggered by hand has the time of the click)
_DAY = (
    "params.get('ds') or dag_run.partition_key or (dag_run.logical_date.strftime('%Y-%m-%d') "
    "if dag_run.logical_date and dag_run.logical_date.strftime('%H%M%S%f') == '000000000000' else '')"
)
RUN_DAY = f"{{{{ {_DAY} }}}}"
RUN_DAY_OR_TODAY = f"{{{{ {_DAY} or dag_run.run_after.astimezone(days_zone).strftime('%Y-%m-%d') }}}}"
# Exit codes that a retry cannot fix (docs/contracts.md)
FINAL_EXITS = {2: "the input or the settings are wrong", 3: "an audit stopped the day"}


class StepOperator(BaseOperator):
    """Run a step for one day.

    step: module in `jobs`. engine: default, the step's own in schemas/engines.py. Spark steps run where the connection
    `spark_default` says, torch steps under torchrun if MSR_NPROC_PER_NODE is above 1. extra_args: further options.
    needs_day False: the step chooses its days itself where `ds` is empty.
    Exit codes 2 and 3 fail the task at once; any other is retried.
    """

    template_fields: Sequence[str] = ("ds", "extra_args")
    ui_color = "#e8f0fb"

    def __init__(
        self,
        *,
        step: str,
        dataset: str,
        engine: Engine | None = None,
        ds: str = RUN_DAY,
        extra_args: Sequence[str] = (),
        needs_day: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.step = step
        self.dataset = dataset
        self.engine: Engine = engine or ENGINES[step]
        self.ds = ds
        self.extra_args = list(extra_args)
        self.needs_day = needs_day
        self._child: Child | None = None

    def execute(self, context: Mapping[str, Any]) -> None:
        self.run_step()

    def run_step(self) -> str:
        """Run the step and return its last line.

        Raises AirflowFailException (exit 2 and 3, or no day) and AirflowException (any other exit), with that line.
        """
        if not self.ds and self.needs_day:
            raise AirflowFailException("this run has no day: start it with the parameter ds=YYYY-MM-DD")
        launch, engine_environment = step_launch(self.step, self.engine)
        command = [*launch, "--dataset", self.dataset, *(["--ds", self.ds] if self.ds else []), *self.extra_args]
        self.log.info("%s", " ".join(command))
        # The connection alone decides which Spark is used, not an address in the scheduler's environment
        inherited = {key: value for key, value in os.environ.items() if key != "SPARK_REMOTE"}
        env = {**inherited, "PYTHONPATH": _python_path(), "PYTHONUNBUFFERED": "1", **engine_environment}
        self._child = Child(command, cwd=project_dir(), env=env)
        ended = self._child.run(lambda line: self.log.info("%s", line))
        if ended.exit_code == 0:
            return ended.last_line
        message = f"{self.step} exit {ended.exit_code}: {ended.last_line or 'no output'}"
        if ended.exit_code in FINAL_EXITS:
            raise AirflowFailException(f"{message} ({FINAL_EXITS[ended.exit_code]}; not retried)")
        raise AirflowException(message)

    def on_kill(self) -> None:
        if self._child is not None:
            self._child.stop()


class StepBranchOperator(BaseBranchOperator, StepOperator):
    """Run a step whose last word of output is its answer, and follow the task of that answer.

    answers: word -> task id, or None to end the run there. after_dag: first wait until no run of that DAG is queued or
    running, without holding a slot (training while days of its window are still being built would miss rows).
    """

    # Airflow derives this from the class that defines execute(); both parents define it
    inherits_from_skipmixin = True

    def __init__(
        self, *, answers: dict[str, str | None], after_dag: str | None = None, poll_s: float = 10.0, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.answers = answers
        self.after_dag = after_dag
        self.poll_s = poll_s

    def execute(self, context: Mapping[str, Any]) -> Any:
        if self.after_dag and context["ti"].get_dr_count(self.after_dag, states=["queued", "running"]):
            self.log.info("%s has unfinished runs; checking again in %.0f s", self.after_dag, self.poll_s)
            raise AirflowRescheduleException(datetime.now(UTC) + timedelta(seconds=self.poll_s))  # type: ignore[no-untyped-call]  # untyped in Airflow
        # Airflow's Context is a TypedDict; ours is any mapping with its keys
        return BaseBranchOperator.execute(self, context)  # type: ignore[arg-type]  # a TypedDict there

    def choose_branch(self, context: Mapping[str, Any]) -> list[str]:
        words = self.run_step().split()
        answer = words[-1] if words else ""
        if answer not in self.answers:
            raise AirflowFailException(f"{self.step} answered {answer!r}, not one of {sorted(self.answers)}")
        follow = self.answers[answer]
        return [follow] if follow else []


def step_launch(step: str, engine: Engine) -> tuple[list[str], dict[str, str]]:
    """The command of a step without its options, and the environment that selects its engine.

    Spark steps follow the connection `spark_default`; torch steps get torchrun in front for several processes.
    Raises AirflowFailException for a connection that cannot be used.
    """
    module = [step_python(), "-m", f"jobs.{step}"]
    if engine == "spark":
        return _spark_launch(step, module)
    processes = int(os.environ.get("MSR_NPROC_PER_NODE", "1"))
    if engine == "torch" and processes > 1:
        launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
        return [step_python(), *launcher, "-m", f"jobs.{step}"], {}
    # For one process torchrun would only add its imports
    return module, {}


def _spark_launch(step: str, module: list[str]) -> tuple[list[str], dict[str, str]]:
    """Connect server: the step is its client. local[*]: its own engine. A cluster: spark-submit in client mode."""
    from airflow.sdk import BaseHook

    connection = BaseHook.get_connection(SPARK_CONNECTION)
    if connection.conn_type == "spark_connect":
        from airflow.providers.apache.spark.hooks.spark_connect import SparkConnectHook

        return module, {"SPARK_REMOTE": SparkConnectHook(conn_id=SPARK_CONNECTION).get_connection_url()}
    if connection.conn_type != "spark":
        raise AirflowFailException(
            f"connection {SPARK_CONNECTION}: type {connection.conn_type!r} is not Spark; use spark_connect or spark"
        )
    if connection.extra_dejson.get("deploy-mode") == "cluster":
        raise AirflowFailException(
            f"connection {SPARK_CONNECTION}: deploy-mode 'cluster' would lose the step's exit code; "
            "use client mode or spark_connect"
        )
    master = _spark_master(connection.host or "local[*]", connection.port)
    if master.startswith("local"):
        return module, {"MSR_SPARK_MASTER": master}
    # A cluster's settings and jars come from spark-defaults.conf, not from scripts/spark-local.conf
    bin_dir = Path(step_python()).parent
    # spark-submit finds Spark's home through the commands on PATH
    environment = {"PYSPARK_PYTHON": step_python(), "PATH": f"{bin_dir}{os.pathsep}{os.environ.get('PATH', '')}"}
    return [str(bin_dir / "spark-submit"), "--master", master, str(project_dir() / "jobs" / f"{step}.py")], environment


def _spark_master(host: str, port: int | None) -> str:
    """`spark://host:port` from a connection's host and port; with a scheme, local[n] and yarn stay as they are."""
    if not port:
        return host
    return f"{host if '://' in host else f'spark://{host}'}:{port}"


def _python_path() -> str:
    return os.pathsep.join([str(project_dir()), *filter(None, [os.environ.get("PYTHONPATH")])])
