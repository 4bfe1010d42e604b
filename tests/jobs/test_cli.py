"""Exit codes and messages that every step shares."""

from datetime import date

import pytest

from jobs.cli import StepArgs, run_step
from schemas.errors import AuditFailedError, TableError


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str, step=lambda args: None) -> int:  # type: ignore[no-untyped-def]
    monkeypatch.setattr("sys.argv", ["step", *arguments])
    with pytest.raises(SystemExit) as stopped:
        run_step("Does something.", step)
    return int(stopped.value.code or 0)


def test_a_day_or_a_range_reaches_the_step(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[StepArgs] = []
    assert run(monkeypatch, "--dataset", "generated", "--ds", "2026-01-03", step=seen.append) == 0
    range_of_days = ["--from", "2026-01-03", "--to", "2026-01-05"]
    assert run(monkeypatch, "--dataset", "generated", *range_of_days, step=seen.append) == 0
    assert seen[0].days == [date(2026, 1, 3)]
    assert seen[1].days == [date(2026, 1, n) for n in (3, 4, 5)]
    assert seen[0].dataset.name == "generated"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--ds", "2026-02-30"], "'2026-02-30' is not a day; write YYYY-MM-DD"),
        ([], "give --ds YYYY-MM-DD, or --from and --to"),
        (["--from", "2026-01-05", "--to", "2026-01-03"], "--to 2026-01-03 lies before --from 2026-01-05"),
        (["--from", "2026-01-05"], "--from and --to go together"),
        (["--ds", "2026-01-05", "--to", "2026-01-06"], "either --ds or --from"),
    ],
)
def test_a_wrong_day_is_a_usage_error(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    assert run(monkeypatch, "--dataset", "generated", *arguments) == 2
    assert message in capsys.readouterr().err


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


@pytest.mark.parametrize(("error", "code"), [(TableError("a\nb"), 2), (AuditFailedError("a\nb"), 3)])
def test_user_errors_are_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: Exception, code: int
) -> None:
    def fail(args: StepArgs) -> None:
        raise error

    assert run(monkeypatch, "--dataset", "generated", "--ds", "2026-01-03", step=fail) == code
    assert capsys.readouterr().err == "error: a b\n"


def test_a_bug_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(args: StepArgs) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("sys.argv", ["step", "--dataset", "generated", "--ds", "2026-01-03"])
    with pytest.raises(ZeroDivisionError):
        run_step("Does something.", fail)
