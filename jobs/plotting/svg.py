"""Small SVG figures: panels with axes and marks, in the style of svg.css, which has a light and a dark palette.

Every series has a colour (class s0 .. s5) and a marker shape of its own. All text is escaped here.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path

Range = tuple[float, float]
Point = tuple[float, float]
Format = Callable[[float], str]

STYLE = Path(__file__).with_name("svg.css").read_text(encoding="utf-8")
COLOURS = 6
MARKER_SHAPES = ("circle", "square", "triangle", "diamond", "ring")
WIDTH = 860.0
COLUMNS = 2  # panels side by side in small multiples
PANEL_GAP = 70.0
TICK_SPACE, LABEL_SPACE = 30.0, 48.0  # below a panel, without and with a label of the x axis


def decimals(digits: int) -> Format:
    """Formats with a fixed number of digits."""
    return lambda value: f"{value:.{digits}f}"


def percent(value: float) -> str:
    """0.125 -> 12.5 %, 0.12 -> 12 %."""
    return f"{100 * value:.1f}".removesuffix(".0") + " %"


def thousands(value: float) -> str:
    """12000 -> 12 k, 120 -> 120."""
    return f"{value / 1000:g} k" if abs(value) >= 1000 else f"{value:g}"


def plain(value: float) -> str:
    """As few digits as the value needs."""
    return f"{value:g}"


def nice_ticks(span: Range, count: int = 5) -> list[float]:
    """About `count` round values inside `span`."""
    low, high = span
    raw = (high - low) / max(count, 1)
    magnitude = 10.0 ** math.floor(math.log10(raw))
    step = next(m * magnitude for m in (1, 2, 5, 10) if m * magnitude >= raw * 0.999)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [round(n * step, 12) for n in range(first, last + 1)]


def spaced(count: int, at_most: int) -> list[float]:
    """At most `at_most` evenly spaced positions of 0 .. count - 1, the last one always among them."""
    step = -(-count // at_most)
    return [float(n) for n in range(count - 1, -1, -step)]


def padded(values: Sequence[float], *, include: Sequence[float] = (), share: float = 0.08) -> Range:
    """A range that holds all values with a margin on both sides; (0, 1) where there are none."""
    finite = [v for v in (*values, *include) if math.isfinite(v)]
    if not finite:
        return (0.0, 1.0)
    low, high = min(finite), max(finite)
    margin = (high - low) * share or max(abs(high) * 0.02, 0.01)
    return (low - margin, high + margin)


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


def polyline(points: Sequence[Point], css: str) -> str:
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


def marker_keys(names: Sequence[str]) -> dict[str, str]:
    """A legend of markers: the i-th name is series i."""
    return {name: marker(7, 7, n % COLOURS) for n, name in enumerate(names)}


def box_key(series: int) -> str:
    """A legend's mark for filled areas."""
    return rectangle(1, 1, 12, 12, f"fill s{series}")


def line_key(css: str) -> str:
    """A legend's mark for lines."""
    return line(0, 7, 14, 7, css)


@dataclass(kw_only=True)
class Panel:
    """A pair of axes at a place in a figure; `x` and `y` turn data units into the figure's."""

    left: float
    top: float
    width: float
    height: float
    x_range: Range
    y_range: Range
    space_below: float = TICK_SPACE
    parts: list[str] = field(default_factory=list)

    def x(self, value: float) -> float:
        low, high = self.x_range
        return self.left + (value - low) / (high - low) * self.width

    def y(self, value: float) -> float:
        low, high = self.y_range
        return self.top + self.height - (value - low) / (high - low) * self.height

    def title(self, words: str, note: str = "") -> None:
        """Words above the panel: its title on the left, a note on the right."""
        self.add(text(self.left, self.top - 8, words, css="panel-title"))
        if note:
            self.add(text(self.left + self.width, self.top - 8, note, anchor="end"))

    def x_axis(self, show: Format, ticks: Sequence[float] | None = None, *, grid: bool = True, label: str = "") -> None:
        bottom = self.top + self.height
        for value in nice_ticks(self.x_range, 7) if ticks is None else ticks:
            if grid:
                self.add(line(self.x(value), self.top, self.x(value), bottom, "grid"))
            self.add(text(self.x(value), bottom + 16, show(value), anchor="middle"))
        self.add(line(self.left, bottom, self.left + self.width, bottom, "axis"))
        if label:
            self.space_below = LABEL_SPACE
            self.add(text(self.left + self.width / 2, bottom + 34, label, anchor="middle", css="label"))

    def days_axis(self, days: Sequence[str], *, at_most: int = 6) -> None:
        """Day i (YYYY-MM-DD, shown as MM-DD) stands at x = i."""
        self.x_axis(lambda n: days[round(n)][5:], spaced(len(days), at_most), grid=False)

    def y_axis(self, show: Format, *, count: int = 4) -> None:
        for value in nice_ticks(self.y_range, count):
            self.add(line(self.left, self.y(value), self.left + self.width, self.y(value), "grid"))
            self.add(text(self.left - 6, self.y(value) + 4, show(value), anchor="end"))

    def names(self, names: Sequence[str]) -> None:
        """Categories down the left side: name i stands at y = i (with a y_range that descends)."""
        for n, name in enumerate(names):
            self.add(text(self.left - 8, self.y(n) + 4, name, anchor="end", css="name"))

    def line(self, start: Point, end: Point, css: str) -> None:
        """A straight line between two points in data units."""
        self.add(line(self.x(start[0]), self.y(start[1]), self.x(end[0]), self.y(end[1]), css))

    def vertical(self, x: float, css: str) -> None:
        """A line from bottom to top."""
        self.add(line(self.x(x), self.top, self.x(x), self.top + self.height, css))

    def curve(self, points: Sequence[Point], series: int, tips: Sequence[str], *, size: float = 4.5) -> None:
        """The line and the markers of a series through points in data units."""
        placed = [(self.x(x), self.y(y)) for x, y in points]
        self.add(polyline(placed, f"curve s{series}"))
        self.add(*(marker(x, y, series, tip, size) for (x, y), tip in zip(placed, tips, strict=True)))

    def add(self, *parts: str) -> None:
        """Marks in the figure's units."""
        self.parts.extend(parts)


def grid(count: int, height: float, x_range: Range, y_range: Range) -> list[Panel]:
    """`count` equal panels, COLUMNS side by side, with room for a title above each."""
    width = (WIDTH - 60 - (COLUMNS - 1) * PANEL_GAP - 24) / COLUMNS
    return [
        Panel(
            left=60 + (n % COLUMNS) * (width + PANEL_GAP), top=28 + (n // COLUMNS) * (height + 64),
            width=width, height=height, x_range=x_range, y_range=y_range,
        )
        for n in range(count)
    ]  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Figure:
    """A picture as data. description: for screen readers; legend: name -> mark drawn in a box of 14 by 14."""

    panels: Sequence[Panel]
    title: str
    description: str
    legend: Mapping[str, str] = field(default_factory=dict)

    def inline(self) -> str:
        """An <svg> for a page that has STYLE and writes the legend itself."""
        return self._svg(self._height, "", "")

    def standalone(self) -> str:
        """An SVG file with style and legend."""
        top = self._height + 14
        keys = ""
        for n, (name, mark) in enumerate(self.legend.items()):
            y = top + 20 * n
            keys += f'<g transform="translate(59 {y - 7:.1f})">{mark}</g>{text(80, y + 4, name, css="name")}'
        height = top + 20 * len(self.legend) if self.legend else self._height
        style = f"<style>{STYLE}</style>"
        return self._svg(height, ' xmlns="http://www.w3.org/2000/svg"', style + keys)

    @property
    def _height(self) -> float:
        return max(p.top + p.height + p.space_below for p in self.panels)

    def _svg(self, height: float, namespace: str, extra: str) -> str:
        body = "".join(part for panel in self.panels for part in panel.parts)
        return (
            f'<svg{namespace} viewBox="0 0 {WIDTH:.0f} {height:.0f}" role="img" style="max-width:{WIDTH:.0f}px">'
            f"<title>{escape(self.title)}</title><desc>{escape(self.description)}</desc>{extra}{body}</svg>"
        )
