"""Base of all specs: immutable, without unknown keys, infinities or NaN."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict


class Spec(BaseModel):
    """Immutable settings. Unknown keys and non-finite numbers are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


def _as_text(value: object) -> object:
    """An integer as its text. YAML reads yes, no, null and 1.50 as something else than what is written."""
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if not isinstance(value, str):
        raise ValueError(f"YAML reads this as {value!r}, not as text; quote it")
    return value


LogText = Annotated[str, BeforeValidator(_as_text)]  # a value as it is written in a log
