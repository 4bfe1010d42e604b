"""Plots of an experiment as standalone SVG files, light and dark."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import zip_longest

from jobs.plotting import svg
from jobs.plotting.svg import COLOURS, Figure, Panel

Point = svg.Point
Bar = tuple[float, float | None, float | None]  # value, lower and upper end of its interval


def bars(values: Mapping[str, Bar], *, title: str, label: str, digits: int = 3, cut: float | None = None) -> str:
    """One dot with its interval per name. digits: of the axis; cut: position of a dashed line."""
    ends = [v for bar in values.values() for v in bar if v is not None]
    names = list(values)
    panel = Panel(
        left=230, top=24, width=svg.WIDTH - 260, height=24.0 * max(len(names), 2),
        x_range=svg.padded(ends, include=[] if cut is None else [cut]), y_range=(len(names) - 0.5, -0.5),
    )  # fmt: skip
    panel.x_axis(svg.decimals(digits), label=label)
    panel.names(names)
    if cut is not None:
        panel.vertical(cut, "cut")
    for place, (name, (middle, low, high)) in enumerate(values.items()):
        if low is not None and high is not None:
            panel.line((low, place), (high, place), "whisker s0")
        panel.add(svg.marker(panel.x(middle), panel.y(place), 0, f"{name}: {middle:.4f}"))
    description = ", ".join(f"{name} {bar[0]:.4f}" for name, bar in values.items())
    return Figure(panels=[panel], title=title, description=description).standalone()


def curves(
    series: Mapping[tuple[str, str], Sequence[Point]], *, title: str, x_label: str, panels: Sequence[str]
) -> str:
    """Lines over x by (panel, series). Panels have their own y axes; a series has one colour in all panels."""
    own = {name: {kind: points for (panel, kind), points in series.items() if panel == name} for name in panels}
    every_x = [x for points in series.values() for x, _ in points]
    drawn = svg.grid(len(panels), 170, svg.padded(every_x, share=0.03), (0, 1))
    kinds = list(dict.fromkeys(kind for _, kind in series))
    for name, panel in zip(panels, drawn, strict=True):
        panel.y_range = svg.padded([y for points in own[name].values() for _, y in points])
        panel.title(name)
        panel.y_axis(svg.decimals(3))
        panel.x_axis(svg.plain, label=x_label)
        for kind, points in own[name].items():
            tips = [f"{name}/{kind} {x:g}: {y:.4f}" for x, y in points]
            panel.curve(points, kinds.index(kind) % COLOURS, tips, size=3)
    description = ", ".join("/".join(key) for key in series)
    return Figure(panels=drawn, title=title, description=description, legend=svg.marker_keys(kinds)).standalone()


def scatter(groups: Mapping[str, Mapping[str, Sequence[Point]]], *, title: str) -> str:
    """One panel per group, all with the same axes; colours by series."""
    every = [point for series in groups.values() for points in series.values() for point in points]
    panels = svg.grid(len(groups), 320, svg.padded([x for x, _ in every]), svg.padded([y for _, y in every]))
    kinds = list(dict.fromkeys(name for series in groups.values() for name in series))
    for (group, series), panel in zip(groups.items(), panels, strict=True):
        panel.title(group, f"{sum(map(len, series.values())):,} rows")
        panel.x_axis(svg.plain)
        panel.y_axis(svg.plain)
        marks = [
            [svg.marker(panel.x(x), panel.y(y), kinds.index(name) % COLOURS, "", 1.4) for x, y in points]
            for name, points in series.items()
        ]
        # Interleave the series: one drawn last as a whole would hide the others
        panel.add(*(mark for turn in zip_longest(*marks, fillvalue="") for mark in turn))
    description = ", ".join(f"{group}: {', '.join(series)}" for group, series in groups.items())
    return Figure(panels=panels, title=title, description=description, legend=svg.marker_keys(kinds)).standalone()
