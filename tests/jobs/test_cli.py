"""Options, exit codes, messages and logging that every command shares."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable, Iterator
from datetime import date
from pathlib import Path
from typing import Annotated, Literal

import pytest
from pydantic import Field

from jobs.cli import (
    POSITIONAL,
    DatasetOptions,
    Day,
    Options,
    OptionsError,
    StepArgs,
    StepOptions,
    Threads,
    parse,
    run_step,
)
from schemas.errors import AuditFailedError, TableError
from schemas.pipeline_spec import Seed

THE_DAY = ["--dataset", "generated", "--ds", "2026-01-03"]


@pytest.fixture(autouse=True)
def loggers() -> Iterator[None]:
    """A command sets up the loggers of its process; here they are as before afterwards."""
    logger = logging.getLogger("jobs")
    level, handlers = logger.level, list(logger.handlers)
    yield
    logger.setLevel(level)
    logger.handlers = handlers


class DemoOptions(StepOptions):
    """One option of each kind."""

    skip_unfit: bool = Field(default=False, description="a flag")
    threads: Threads = Field(default=1, description="a whole number of 100 % of the cores")
    seed: Seed | None = Field(default=None, description="a seed")
    ratio: float | None = Field(default=None, ge=0, le=1, description="a share")
    window: Literal["training", "exact"] = Field(default="training", description="a choice")
    table: list[str] = Field(default=[], title="TABLE", description="several")
    json_file: Path | None = Field(default=None, validation_alias="json", title="FILE", description="a path")


class Show(DatasetOptions):
    """show it"""

    id: Annotated[str, POSITIONAL, Field(title="ID", description="which")]
    since: Day = Field(validation_alias="from", title="DAY", description="from when on")


def run(
    monkeypatch: pytest.MonkeyPatch,
    *arguments: str,
    step: Callable[[StepArgs[DemoOptions]], None] = lambda args: None,
) -> int:
    monkeypatch.setattr("sys.argv", ["step", *arguments])
    with pytest.raises(SystemExit) as stopped:
        run_step("Does something.\n\n  python -m jobs.step   # aligned", step, DemoOptions)
    return int(stopped.value.code or 0)


def test_a_day_or_a_range_reaches_the_step(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[StepArgs[DemoOptions]] = []
    assert run(monkeypatch, *THE_DAY, step=seen.append) == 0
    range_of_days = ["--from", "2026-01-03", "--to", "2026-01-05"]
    assert run(monkeypatch, "--dataset", "generated", *range_of_days, step=seen.append) == 0
    assert seen[0].days == [date(2026, 1, 3)]
    assert seen[1].days == [date(2026, 1, n) for n in (3, 4, 5)]
    assert seen[0].dataset.name == "generated"


def test_options_have_their_types_and_defaults() -> None:
    assert parse(DemoOptions, []) == DemoOptions()
    words = "--skip-unfit --threads 2 --ratio .5 --window exact --table a b --table c --json x.json --quiet"
    assert parse(DemoOptions, words.split()) == DemoOptions(
        skip_unfit=True,
        threads=2,
        ratio=0.5,
        window="exact",
        table=["a", "b", "c"],
        json_file=Path("x.json"),
        quiet=True,
    )
    assert parse(DemoOptions, ["--table", "hidden=[64,32]"]).table == ["hidden=[64,32]"], "a value is not split"


def test_environment_variables_are_no_options(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("THREADS", "7")
    monkeypatch.setenv("ds", "2026-01-01")
    assert parse(DemoOptions, []) == DemoOptions()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--ds", "2026-02-30"], "--ds 2026-02-30: not a day; write YYYY-MM-DD"),
        (["--ds", "20260103"], "--ds 20260103: not a day; write YYYY-MM-DD"),
        (["--ds", "2026-W01-1"], "--ds 2026-W01-1: not a day; write YYYY-MM-DD"),
        (["--ds", "0001-01-01"], "--ds 0001-01-01: must be a day from 1970 to 2999"),
        (["--ds", "1767225600"], "--ds 1767225600: not a day; write YYYY-MM-DD"),
        ([], "which day? give --ds YYYY-MM-DD, or --from and --to"),
        (["--from", "2026-01-05", "--to", "2026-01-03"], "--to 2026-01-03 lies before --from 2026-01-05"),
        (["--from", "2026-01-05"], "--from and --to go together"),
        (["--ds", "2026-01-05", "--to", "2026-01-06"], "give either --ds or --from and --to"),
        (["--threads", "0"], "--threads 0: must be 1 or more"),
        (["--threads", "3000000000"], "--threads 3000000000: must be 1024 or less"),
        (["--seed", "2147483648"], "--seed 2147483648: must be less than 2147483648"),
        (["--threads", "1.5"], "--threads 1.5: must be a whole number"),
        (["--ratio", "-0.5"], "--ratio -0.5: must be 0 or more"),
        (["--ratio", "inf"], "--ratio inf: must be a finite number"),
        (["--ratio", "half"], "--ratio half: must be a number"),
        (["--window", "open"], "--window open: must be 'training' or 'exact'"),
        (["--window"], "argument --window: expected one argument; see --help"),
        (["--quie", "--nothing", "3"], "unrecognized arguments: --quie --nothing 3; see --help"),
    ],
)
def test_a_wrong_option_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    assert run(monkeypatch, "--dataset", "generated", *arguments) == 2
    assert capsys.readouterr().err == f"error: {message}\n"


def test_a_missing_data_set_is_a_usage_error(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, "--ds", "2026-01-03") == 2
    assert "give --dataset NAME" in capsys.readouterr().err


def test_an_unknown_data_set_is_one_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(monkeypatch, "--dataset", "generatd", "--ds", "2026-01-03") == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "did you mean 'generated'?" in error


def test_a_commands_options_may_name_the_data_set_before_or_behind_it() -> None:
    expected = Show(dataset="d", id="a", since=date(2026, 1, 3))
    assert parse({"show": Show}, ["--dataset", "d", "show", "a", "--from", "2026-01-03"]) == expected
    assert parse({"show": Show}, ["show", "a", "--from", "2026-01-03", "--dataset", "d"]) == expected
    for words, message in (
        (["show", "a"], "--from is missing: from when on"),
        (["show"], "arguments are required: ID"),
        ([], "arguments are required: COMMAND"),
        (["shwo", "a"], "invalid choice: 'shwo'"),
    ):
        with pytest.raises(OptionsError, match=re.escape(message)):
            parse({"show": Show}, words)


def test_help_has_the_description_as_it_is_and_the_bounds_of_days(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, "--help") == 0
    text = capsys.readouterr().out
    assert "\n  python -m jobs.step   # aligned\n" in text
    assert "--window {training,exact}" in text and "a choice (default training)" in text and "100 % of" in text
    assert all(f"--{name.replace('_', '-')}" in text for name in Options.model_fields)


@pytest.mark.parametrize(("error", "code"), [(TableError("a\nb"), 2), (AuditFailedError("a\nb"), 3)])
def test_user_errors_are_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: Exception, code: int
) -> None:
    def fail(args: StepArgs[DemoOptions]) -> None:
        raise error

    assert run(monkeypatch, *THE_DAY, step=fail) == code
    assert capsys.readouterr().err == "error: a b\n"


def test_a_bug_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(args: StepArgs[DemoOptions]) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("sys.argv", ["step", *THE_DAY])
    with pytest.raises(ZeroDivisionError):
        run_step("Does something.", fail, DemoOptions)


def reports(args: StepArgs[DemoOptions]) -> None:
    log = logging.getLogger("jobs.demo")
    log.info("10 rows")
    log.warning("none of %s", "home")


def test_lines_have_the_time_and_warnings_their_level(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run(monkeypatch, *THE_DAY, step=reports)
    first, second = capsys.readouterr().out.splitlines()
    assert re.fullmatch(r"\d\d:\d\d:\d\d 10 rows", first)
    assert re.fullmatch(r"\d\d:\d\d:\d\d WARNING none of home", second)
    run(monkeypatch, *THE_DAY, "--quiet", step=reports)
    (only,) = capsys.readouterr().out.splitlines()
    assert only.endswith("WARNING none of home")


def test_lines_can_be_json(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    run(monkeypatch, *THE_DAY, "--log-json", step=reports)
    first, second = map(json.loads, capsys.readouterr().out.splitlines())
    assert (first["level"], first["logger"], first["message"]) == ("INFO", "jobs.demo", "10 rows")
    assert second["message"] == "none of home" and re.match(
        r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+00:00", first["time"]
    )
