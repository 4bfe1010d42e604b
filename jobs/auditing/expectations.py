"""Run a table's expectations on a Spark frame with Great Expectations, before the frame is published."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pyspark.sql import DataFrame

from schemas.audit_spec import ExpectationSpec
from schemas.errors import DatasetSpecError, MsrError, TableError
from schemas.table_spec import Expectation, TableSpec
from schemas.text import did_you_mean

_COLUMN_ARGUMENTS = ("column", "column_A", "column_B", "column_list", "column_set")


@dataclass(frozen=True, kw_only=True)
class AuditResult:
    """What did not hold, one line each, by severity; page: the results as a page of Data Docs, None if none."""

    failures: tuple[str, ...]
    warnings: tuple[str, ...]
    page: str | None = None


@dataclass(frozen=True, kw_only=True)
class _Check:
    """An expectation and the place that declares it."""

    expectation: Expectation | ExpectationSpec
    place: str

    def error(self, problem: str) -> MsrError:
        of_dataset = isinstance(self.expectation, ExpectationSpec)
        kind = DatasetSpecError if of_dataset else TableError
        return kind(f"{self.place}: {self.expectation.type} {problem}")


def check_expectations(spec: TableSpec, own: Sequence[ExpectationSpec]) -> None:
    """Raise DatasetSpecError where one of a data set's expectations is unknown, or its arguments do not fit.

    Without an engine: a mistake is told before the log is read.
    """
    if not own:
        return
    gx = _great_expectations()
    for check in _checks(spec, own)[len(spec.expectations) :]:
        _build(gx, check, 0)
        _require_columns(check, spec)


def run_expectations(
    frame: DataFrame, spec: TableSpec, own: Sequence[ExpectationSpec] = (), *, title: str = ""
) -> AuditResult:
    """Check the expectations of the spec and a data set's `own`. Persist `frame` first: each costs a pass.

    title: names the page of the results (default: the table).
    Raises TableError, or DatasetSpecError for one of `own`, where Great Expectations cannot compute one.
    """
    checks = _checks(spec, own)
    if not checks:
        return AuditResult(failures=(), warnings=())
    outcome = _validate(frame, spec, checks, title or spec.name)
    outcomes = sorted(outcome.results, key=_position)
    broken: dict[str, list[str]] = {"fail": [], "warn": []}
    for check, result in zip(checks, outcomes, strict=True):
        if not result.success:
            broken[check.expectation.severity].append(_describe(check.expectation, result))
    return AuditResult(failures=tuple(broken["fail"]), warnings=tuple(broken["warn"]), page=_page(outcome))


def _checks(spec: TableSpec, own: Sequence[ExpectationSpec]) -> list[_Check]:
    checks = [_Check(expectation=e, place=f"schemas/tables/{spec.name}.py") for e in spec.expectations]
    return checks + [_Check(expectation=e, place=f"audit.expectations.{n} of the YAML") for n, e in enumerate(own)]


def _great_expectations() -> Any:
    os.environ["GX_ANALYTICS_ENABLED"] = "false"  # read at import; nothing may be sent from a batch job
    import great_expectations as gx  # takes seconds to import, and most steps do not need it

    return gx


def _validate(frame: DataFrame, spec: TableSpec, checks: Sequence[_Check], title: str) -> Any:
    """Great Expectations' results: they come in an order of their own."""
    gx = _great_expectations()
    context: Any = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = {"globally": False}
    # persist=True would keep the frame in the engine for ever, and a later frame with the same plan would get its rows
    asset = context.data_sources.add_spark(spec.name, persist=False).add_dataframe_asset(spec.name)
    batch = asset.add_batch_definition_whole_dataframe("day").get_batch({"dataframe": frame})
    # meta holds the position, as Great Expectations returns results in another order
    built = [_build(gx, check, n) for n, check in enumerate(checks)]
    suite = gx.ExpectationSuite(title, expectations=built)
    outcome = batch.validate(suite, result_format="BOOLEAN_ONLY")
    if not outcome.success:  # rare: only then count violations, a pass per expectation
        outcome = batch.validate(suite, result_format="BASIC")
    for result in outcome.results:
        if result.exception_info and (problem := _exception(result.exception_info)):
            raise checks[_position(result)].error(f"cannot be computed: {problem}")
    return outcome


def _position(result: Any) -> int:
    return int(result.expectation_config.meta["position"])


def _page(outcome: Any) -> str:
    """The results as one page of Great Expectations' Data Docs."""
    from great_expectations.render.renderer.page_renderer import ValidationResultsPageRenderer
    from great_expectations.render.view.view import DefaultJinjaPageView

    renderer: Any = ValidationResultsPageRenderer()
    view: Any = DefaultJinjaPageView()
    return str(view.render(renderer.render(outcome)))


def _build(gx: Any, check: _Check, position: int) -> Any:
    kind = getattr(gx.expectations, check.expectation.type, None)
    if kind is None:
        known = [name for name in dir(gx.expectations) if name.startswith("Expect")]
        hint = did_you_mean(check.expectation.type, known, otherwise="see its expectation gallery")
        raise check.error(f"is not in Great Expectations; {hint}")
    try:
        return kind(**check.expectation.kwargs, meta={"position": position})
    except ValueError as error:  # Great Expectations' own models: one line per argument
        wrong: list[Any] = getattr(error, "errors", list)()
        lines = [f"{'.'.join(map(str, e['loc']))}: {e['msg']}".removeprefix("__root__: ") for e in wrong]
        raise check.error(f"has wrong kwargs: {'; '.join(lines) or error}") from error


def _require_columns(check: _Check, spec: TableSpec) -> None:
    for argument in _COLUMN_ARGUMENTS:
        named = check.expectation.kwargs.get(argument, ())
        for column in [named] if isinstance(named, str) else named:
            if column not in spec.column_names:
                raise check.error(f"names {column!r}; {spec.name} has {', '.join(spec.column_names)}")


def _exception(info: dict[str, Any]) -> str | None:
    """The message of a computation that failed: `info` is one record, or one per metric."""
    records = [info] if "raised_exception" in info else list(info.values())
    for record in records:
        if record.get("raised_exception"):
            return " ".join(str(record.get("exception_message")).split())
    return None


def _describe(expectation: Expectation | ExpectationSpec, outcome: Any) -> str:
    arguments = ", ".join(f"{key}={value!r}" for key, value in expectation.kwargs.items())
    found = outcome.result
    if "unexpected_count" in found:
        return (
            f"{expectation.type}({arguments}): {found['unexpected_count']} of {found['element_count']} rows do not fit"
        )
    return f"{expectation.type}({arguments}): found {found.get('observed_value')}"
