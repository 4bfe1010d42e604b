"""How numbers are written in the report's page and summary."""

from __future__ import annotations

from msr_models.evaluation.significance import Contrast

MISSING = "–"


def number(value: float | None, digits: int = 4) -> str:
    """A number with fixed digits; a dash for None."""
    return MISSING if value is None else f"{value:.{digits}f}"


def count(value: int) -> str:
    """12000 -> 12,000."""
    return f"{value:,}"


def signed(value: float | None, digits: int = 4) -> str:
    """A difference with its sign; a dash for None."""
    return MISSING if value is None else f"{value:+.{digits}f}"


def percent(value: float | None) -> str:
    """0.125 -> 12.5 %; a dash for None."""
    return MISSING if value is None else f"{100 * value:.1f} %"


def difference(left: float | None, right: float | None) -> float | None:
    """left - right, None where either is."""
    return None if left is None or right is None else left - right


def gain_text(gain: float | None, low: float | None, high: float | None) -> str:
    """+0.0123 [+0.0023, +0.0223]; a dash for None."""
    return MISSING if gain is None else f"{signed(gain)} [{signed(low)}, {signed(high)}]"


def contrast_text(found: Contrast | None) -> str:
    """`gain_text` of a contrast."""
    return MISSING if found is None else gain_text(found.estimate, found.low, found.high)
