"""Run a table's expectations on a Spark frame with Great Expectations, before the frame is published."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

from pyspark.sql import DataFrame

from schemas.errors import TableError
from schemas.table_spec import Expectation, TableSpec


@dataclass(frozen=True, kw_only=True)
class AuditResult:
    """What did not hold, one line each, by severity."""

    failures: tuple[str, ...]
    warnings: tuple[str, ...]


def run_expectations(frame: DataFrame, spec: TableSpec) -> AuditResult:
    """Check every expectation of the spec. Persist `frame` first: each expectation costs a pass.

    Raises TableError where Great Expectations cannot compute one (a column that is not there, a wrong argument).
    """
    if not spec.expectations:
        return AuditResult(failures=(), warnings=())
    outcomes = _validate(frame, spec)
    broken: dict[str, list[str]] = {"fail": [], "warn": []}
    for expectation, outcome in zip(spec.expectations, outcomes, strict=True):
        if not outcome.success:
            broken[expectation.severity].append(_describe(expectation, outcome))
    return AuditResult(failures=tuple(broken["fail"]), warnings=tuple(broken["warn"]))


def _validate(frame: DataFrame, spec: TableSpec) -> list[Any]:
    """Great Expectations' results, in the order of the spec's expectations."""
    os.environ["GX_ANALYTICS_ENABLED"] = "false"  # read at import; nothing may be sent from a batch job
    import great_expectations as gx  # takes seconds to import, and most steps do not need it

    context: Any = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = {"globally": False}
    # persist=True would keep the frame in the engine for ever, and a later frame with the same plan would get its rows
    asset = context.data_sources.add_spark(spec.name, persist=False).add_dataframe_asset(spec.name)
    batch = asset.add_batch_definition_whole_dataframe("day").get_batch({"dataframe": frame})
    # meta holds the position, as Great Expectations returns results in another order
    checks = [_build(gx, expectation, spec, n) for n, expectation in enumerate(spec.expectations)]
    suite = gx.ExpectationSuite(spec.name, expectations=checks)
    outcome = batch.validate(suite, result_format="BOOLEAN_ONLY")
    if not outcome.success:  # rare: only then count violations, a pass per expectation
        outcome = batch.validate(suite, result_format="BASIC")
    results = outcome.results
    for result in results:
        if result.exception_info and (problem := _exception(result.exception_info)):
            raise TableError(f"table {spec.name}: {result.expectation_config.type} cannot be computed: {problem}")
    return sorted(results, key=lambda result: int(result.expectation_config.meta["position"]))


def _build(gx: Any, expectation: Expectation, spec: TableSpec, position: int) -> Any:
    kind = getattr(gx.expectations, expectation.type, None)
    if kind is None:
        raise TableError(
            f"schemas/tables/{spec.name}.py: Great Expectations has no {expectation.type}; see its expectation gallery"
        )
    return kind(**expectation.kwargs, meta={"position": position})


def _exception(info: dict[str, Any]) -> str | None:
    """The message of a computation that failed: `info` is one record, or one per metric."""
    records = [info] if "raised_exception" in info else list(info.values())
    for record in records:
        if record.get("raised_exception"):
            return " ".join(str(record.get("exception_message")).split())
    return None


def _describe(expectation: Expectation, outcome: Any) -> str:
    arguments = ", ".join(f"{key}={value!r}" for key, value in expectation.kwargs.items())
    found = outcome.result
    if "unexpected_count" in found:
        return (
            f"{expectation.type}({arguments}): {found['unexpected_count']} of {found['element_count']} rows do not fit"
        )
    return f"{expectation.type}({arguments}): found {found.get('observed_value')}"
