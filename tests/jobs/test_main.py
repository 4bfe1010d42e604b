"""`python -m jobs` finds every command, in its group; every step has the engine that it reaches by imports."""

from __future__ import annotations

import subprocess
import sys

import pytest

from jobs.__main__ import GROUPS, commands
from schemas.engines import ENGINES
from tests.support.source_tree import ROOT, imports_of, module_name, python_files, reached_from, steps


def test_every_command_is_listed_in_a_group() -> None:
    listed = {command.module: command for command in commands()}
    runnable = {
        module_name(path)
        for path in [*(ROOT / "jobs").glob("*.py"), *(ROOT / "jobs" / "research").glob("*.py")]
        if 'if __name__ == "__main__":' in path.read_text(encoding="utf-8")
    }
    assert set(listed) == runnable - {"jobs.__main__"} >= set(steps())
    assert {command.group for command in listed.values()} == set(GROUPS)
    assert all(command.summary.rstrip(".:") for command in listed.values())
    assert {m for m, command in listed.items() if command.group == "research"} == {
        m for m in listed if m.startswith("jobs.research.")
    }


@pytest.mark.parametrize("arguments", [[], ["--help"]])
def test_the_list_names_every_command_and_loads_no_engine(arguments: list[str]) -> None:
    watched = (
        "import runpy, sys; sys.modules.update(torch=None, pyspark=None, pyarrow=None); "
        f"sys.argv[1:] = {arguments!r}; runpy.run_module('jobs', run_name='__main__')"
    )
    done = subprocess.run([sys.executable, "-c", watched], cwd=ROOT, capture_output=True, text=True, check=True)
    lines = [line.split() for line in done.stdout.splitlines() if line.startswith("  jobs.")]
    assert sorted(line[0] for line in lines) == sorted(command.module for command in commands())
    assert all(title in done.stdout for title in GROUPS.values())


def test_a_command_as_an_argument_is_an_error_that_shows_the_right_form() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "jobs", "report"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2 and done.stderr == "error: report: run a command as python -m jobs.<command>\n"


def test_every_step_has_the_engine_that_it_reaches_by_imports() -> None:
    assert {f"jobs.{step}" for step in ENGINES} == set(steps())
    for step, engine in ENGINES.items():
        reached = reached_from(f"jobs.{step}") & {"pyspark", "torch"}
        assert reached == {"spark": {"pyspark"}, "torch": {"torch"}, "arrow": set()}[engine], step


def test_no_command_is_imported_by_another_module() -> None:
    """What several commands need lies in a library: jobs/building, jobs/cli, msr_models or lake."""
    names = {command.module for command in commands()}
    importers = {
        module_name(path): sorted(names & imports_of(path))
        for room in ("jobs", "msr_models", "lake", "schemas")
        for path in python_files(room)
    }
    assert {module: found for module, found in importers.items() if found} == {}
