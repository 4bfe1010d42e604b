"""Typed options of commands: a pydantic model whose fields are the flags, which bound and check their values.

A field `skip_unfit` is the flag `--skip-unfit` (or its validation_alias, where Python reserves the name), its
description the help, its title the placeholder of the value. `bool` fields are flags without a value; list fields take
several values and may be repeated. jobs/cli/parser.py parses them.
"""

from __future__ import annotations

from datetime import date, timedelta
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from schemas.errors import MsrError

# In a field's Annotated: an argument without a flag
POSITIONAL = "positional"


class OptionsError(MsrError):
    """An option has a wrong value, is missing, or does not go with another one."""


def _iso_day(value: object) -> object:
    if not isinstance(value, str):
        return value
    try:
        day = date.fromisoformat(value)
    except ValueError:
        raise ValueError("not a day; write YYYY-MM-DD") from None
    if str(day) != value:  # Python also reads 20260108 and 2026-W01-1
        raise ValueError("not a day; write YYYY-MM-DD")
    if not 1970 <= day.year < 3000:
        raise ValueError("must be a day from 1970 to 2999")
    return day


Day = Annotated[date, BeforeValidator(_iso_day)]
Threads = Annotated[int, Field(ge=1, le=1024)]


class Options(BaseModel):
    """Options of every command."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True, allow_inf_nan=False)

    quiet: bool = Field(default=False, description="log warnings and errors only")
    log_json: bool = Field(default=False, description="log one JSON object per line")


class DatasetOptions(Options):
    """Options of a command that works on a data set."""

    dataset: str | None = Field(default=None, title="NAME", description="name of a data set, or the path of its YAML")

    def days(self) -> list[date]:
        """The days asked for, ascending; none where the command knows no days."""
        return []


class StepOptions(DatasetOptions):
    """Options of a step, which works on one day or a range of days."""

    ds: Day | None = Field(default=None, title="DAY", description="the day, YYYY-MM-DD")
    first: Day | None = Field(
        default=None, validation_alias="from", title="DAY", description="first day of a range (with --to)"
    )
    last: Day | None = Field(
        default=None, validation_alias="to", title="DAY", description="last day of a range, included"
    )

    def days(self) -> list[date]:
        """The day or the range asked for. Raises OptionsError where the options contradict each other."""
        first, last = self.first, self.last
        if self.ds is not None:
            if first is not None or last is not None:
                raise OptionsError("give either --ds or --from and --to")
            return [self.ds]
        if first is None and last is None:
            return []
        if first is None or last is None:
            raise OptionsError("--from and --to go together")
        if last < first:
            raise OptionsError(f"--to {last} lies before --from {first}")
        return [first + timedelta(days=n) for n in range((last - first).days + 1)]
