"""Small inline SVG: panels with axes and marks. Colours are CSS classes (s0, s1, ...), so that light and dark work.

A figure is one <svg role="img"> with <title> and <desc>; every series has a colour and a marker shape of its own.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape

Range = tuple[float, float]
Format = Callable[[float], str]

WIDTH = 860.0
COLUMNS = 2  # panels side by side in small multiples
PANEL_GAP = 70.0
MARKER_SHAPES = ("circle", "square", "triangle", "diamond", "ring")


def decimals(digits: int) -> Format:
    """Formats with a fixed number of digits."""
    return lambda value: f"{value:.{digits}f}"


def percent(value: float) -> str:
    """0.125 -> 12.5 %, whole numbers without a digit."""
    return f"{100 * value:.1f}".removesuffix(".0") + " %"


def thousands(value: float) -> str:
    """12000 -> 12 k; small numbers as they are."""
    return f"{value / 1000:g} k" if abs(value) >= 1000 else f"{value:g}"


def nice_ticks(span: Range, count: int = 5) -> list[float]:
    """About `count` round values inside `span`."""
    low, high = span
    raw = (high - low) / max(count, 1)
    magnitude = 10.0 ** math.floor(math.log10(raw))
    step = next(m * magnitude for m in (1, 2, 2.5, 5, 10) if m * magnitude >= raw * 0.999)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [round(n * step, 12) for n in range(first, last + 1)]


def padded(values: Sequence[float], *, include: Sequence[float] = (), share: float = 0.08) -> Range:
    """A range that holds all values with some air; (0, 1) where there are none."""
    every = [v for v in (*values, *include) if math.isfinite(v)]
    if not every:
        return (0.0, 1.0)
    low, high = min(every), max(every)
    air = (high - low) * share or max(abs(high) * 0.02, 0.01)
    return (low - air, high + air)


def text(x: float, y: float, words: str, *, anchor: str = "start", css: str = "tick") -> str:
    """Words at a point; anchor is start, middle or end."""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" class="{css}">{escape(words)}</text>'


def line(x1: float, y1: float, x2: float, y2: float, css: str) -> str:
    """A straight line."""
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" class="{css}"/>'


def rectangle(x: float, y: float, width: float, height: float, css: str, tip: str = "") -> str:
    """A filled box; `tip` is shown on hover."""
    box = f'<rect x="{x:.1f}" y="{y:.1f}" width="{max(width, 0):.1f}" height="{max(height, 0):.1f}" class="{css}"'
    return f"{box}><title>{escape(tip)}</title></rect>" if tip else f"{box}/>"


def polyline(points: Sequence[tuple[float, float]], css: str) -> str:
    """A line through points."""
    return f'<polyline points="{" ".join(f"{x:.1f},{y:.1f}" for x, y in points)}" class="{css}"/>'


def marker(x: float, y: float, series: int, tip: str = "", size: float = 4.5) -> str:
    """The marker of a series: shape and colour follow its number."""
    shape, css = MARKER_SHAPES[series % len(MARKER_SHAPES)], f"fill s{series}"
    note = f"<title>{escape(tip)}</title>" if tip else ""
    if shape in ("circle", "ring"):
        css = css if shape == "circle" else f"ring s{series}"
        return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{size:.1f}" class="{css}">{note}</circle>'
    corners = {
        "square": ((-0.9, -0.9), (0.9, -0.9), (0.9, 0.9), (-0.9, 0.9)),
        "triangle": ((0, -1.2), (1.1, 0.9), (-1.1, 0.9)),
        "diamond": ((0, -1.3), (1.2, 0), (0, 1.3), (-1.2, 0)),
    }[shape]
    points = " ".join(f"{x + dx * size:.1f},{y + dy * size:.1f}" for dx, dy in corners)
    return f'<polygon points="{points}" class="{css}">{note}</polygon>'


@dataclass(kw_only=True)
class Panel:
    """One pair of axes inside a figure; marks are given in data units and drawn inside the box."""

    left: float
    top: float
    width: float
    height: float
    x_range: Range
    y_range: Range
    parts: list[str] = field(default_factory=list)

    def x(self, value: float) -> float:
        low, high = self.x_range
        return self.left + (value - low) / (high - low) * self.width

    def y(self, value: float) -> float:
        low, high = self.y_range
        return self.top + self.height - (value - low) / (high - low) * self.height

    def title(self, words: str, note: str = "") -> None:
        self.parts.append(text(self.left, self.top - 8, words, css="panel-title"))
        if note:
            self.parts.append(text(self.left + self.width, self.top - 8, note, anchor="end"))

    def x_axis(self, show: Format, ticks: Sequence[float] | None = None, *, grid: bool = True, label: str = "") -> None:
        bottom = self.top + self.height
        for value in nice_ticks(self.x_range, 7) if ticks is None else ticks:
            if grid:
                self.parts.append(line(self.x(value), self.top, self.x(value), bottom, "grid"))
            self.parts.append(text(self.x(value), bottom + 15, show(value), anchor="middle"))
        self.parts.append(line(self.left, bottom, self.left + self.width, bottom, "axis"))
        if label:
            self.parts.append(text(self.left + self.width / 2, bottom + 32, label, anchor="middle", css="label"))

    def y_axis(self, show: Format, ticks: Sequence[float] | None = None, *, count: int = 4) -> None:
        for value in nice_ticks(self.y_range, count) if ticks is None else ticks:
            self.parts.append(line(self.left, self.y(value), self.left + self.width, self.y(value), "grid"))
            self.parts.append(text(self.left - 6, self.y(value) + 4, show(value), anchor="end"))

    def names(self, names: Sequence[str]) -> None:
        """Categories down the left side: name i stands at y = i (use a y_range that descends)."""
        for n, name in enumerate(names):
            self.parts.append(text(self.left - 8, self.y(n) + 4, name, anchor="end", css="name"))

    def add(self, *parts: str) -> None:
        self.parts.extend(parts)


def grid(count: int, height: float, x_range: Range, y_range: Range) -> list[Panel]:
    """`count` equal panels, COLUMNS side by side."""
    width = (WIDTH - 60 - (COLUMNS - 1) * PANEL_GAP - 24) / COLUMNS
    return [
        Panel(
            left=60 + (n % COLUMNS) * (width + PANEL_GAP), top=28 + (n // COLUMNS) * (height + 62),
            width=width, height=height, x_range=x_range, y_range=y_range,
        )
        for n in range(count)
    ]  # fmt: skip


def grid_height(panels: Sequence[Panel]) -> float:
    """Height of a figure that holds these panels."""
    return max(p.top + p.height for p in panels) + 30


def figure(panels: Sequence[Panel], *, width: float, height: float, title: str, description: str) -> str:
    """One <svg> of all panels, read out as title and description."""
    body = "".join("".join(panel.parts) for panel in panels)
    return (
        f'<svg viewBox="0 0 {width:.0f} {height:.0f}" role="img" style="max-width:{width:.0f}px">'
        f"<title>{escape(title)}</title><desc>{escape(description)}</desc>{body}</svg>"
    )


def legend(names: Sequence[str], *, first: int = 0) -> str:
    """HTML legend: the marker of each series and its name."""
    return key_list({name: marker(7, 7, first + n) for n, name in enumerate(names)})


def key_list(keys: Mapping[str, str]) -> str:
    """HTML legend: name -> mark drawn in a box of 14 by 14."""
    items = "".join(
        f'<li><svg viewBox="0 0 14 14" class="key" aria-hidden="true">{mark}</svg>{escape(name)}</li>'
        for name, mark in keys.items()
    )
    return f'<ul class="legend">{items}</ul>'
