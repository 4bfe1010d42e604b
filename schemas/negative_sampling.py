"""`negative_sampling`: the share of the negatives that is kept, of all scenarios or by scenario."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from pydantic import PlainValidator


def _shares(value: Any) -> Any:
    """A number in (0, 1], or such a number by scenario; null: all negatives are kept."""
    if isinstance(value, Mapping):
        return {str(name): _share(share, f" of {name}") for name, share in value.items()}
    return None if value is None else _share(value, "")


def _share(value: Any, of: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= 1:
        raise ValueError(
            f"the share{of}, {value!r}, does not lie in (0, 1]: give the part of the negatives that is kept"
        )
    return float(value)


# One validator: a union of types would report a wrong value once per type
NegativeSampling = Annotated[Any, PlainValidator(_shares)]


def kept_shares(setting: Any, scenarios: Sequence[str]) -> tuple[float, ...] | None:
    """The share of each scenario's negatives that is kept, 1 of scenarios that are not named; None: all are kept.

    Raises ValueError where a name is no scenario.
    """
    if setting is None:
        return None
    by_name = setting if isinstance(setting, Mapping) else dict.fromkeys(scenarios, setting)
    if unknown := [name for name in by_name if name not in scenarios]:
        raise ValueError(f"negative_sampling names {unknown[0]!r}, which is no scenario; use some of {list(scenarios)}")
    shares = tuple(float(by_name.get(name, 1.0)) for name in scenarios)
    return None if all(share == 1 for share in shares) else shares
