"""Plots of an experiment as SVG files that stand alone, light and dark."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import zip_longest

from jobs.reporting import svg
from jobs.reporting.svg import Panel

COLOURS = 6
_STYLE = """
:root { color-scheme: light dark; --page: #ffffff; --ink: #1b1f24; --soft: #59636e; --rule: #d9dee3;
 --s0: #c44e00; --s1: #0068a8; --s2: #007a5a; --s3: #a8508a; --s4: #9a6b00; --s5: #6b7280; }
@media (prefers-color-scheme: dark) { :root { --page: #14181d; --ink: #e6e9ed; --soft: #a3adb8; --rule: #343c46;
 --s0: #ff9248; --s1: #5ab4ee; --s2: #3fcfa4; --s3: #e59fcb; --s4: #e9c04a; --s5: #a9b2bd; } }
svg { background: var(--page); }
text { fill: var(--soft); font: 12px system-ui, sans-serif; }
text.name { fill: var(--ink); font-size: 13.5px; } text.panel-title { fill: var(--ink); font-weight: 600; }
.grid { stroke: var(--rule); } .axis { stroke: var(--soft); } .curve { fill: none; stroke-width: 1.8; }
.cut { stroke: var(--ink); stroke-width: 1.3; stroke-dasharray: 4 3; }
.whisker { stroke-width: 2.2; opacity: .75; } .ring { fill: var(--page); stroke-width: 2; }
""" + "".join(
    f".s{n} {{ stroke: var(--s{n}); }} .fill.s{n} {{ fill: var(--s{n}); stroke: none; }}\n" for n in range(COLOURS)
)

Point = tuple[float, float]
Bar = tuple[float, float | None, float | None]


def standalone(figure: str) -> str:
    """A figure of the report as a file of its own."""
    return figure.replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" ', 1).replace(
        "<title>", f"<style>{_STYLE}</style><title>", 1
    )


def bars(values: Mapping[str, Bar], *, title: str, label: str, digits: int = 3, cut: float | None = None) -> str:
    """One dot per name with its interval, names down the left; digits: of the axis; `cut`: a dashed line."""
    ends = [v for bar in values.values() for v in bar if v is not None]
    names = list(values)
    panel = Panel(
        left=230, top=24, width=svg.WIDTH - 260, height=24.0 * max(len(names), 2),
        x_range=svg.padded(ends, include=[] if cut is None else [cut]), y_range=(len(names) - 0.5, -0.5),
    )  # fmt: skip
    panel.x_axis(svg.decimals(digits), label=label)
    panel.names(names)
    if cut is not None:
        panel.add(svg.line(panel.x(cut), panel.top, panel.x(cut), panel.top + panel.height, "cut"))
    for place, (name, (middle, low, high)) in enumerate(values.items()):
        if low is not None and high is not None:
            panel.add(svg.line(panel.x(low), panel.y(place), panel.x(high), panel.y(place), "whisker s0"))
        panel.add(svg.marker(panel.x(middle), panel.y(place), 0, f"{name}: {middle:.4f}"))
    told = ", ".join(f"{name} {bar[0]:.4f}" for name, bar in values.items())
    return standalone(
        svg.figure([panel], width=svg.WIDTH, height=panel.top + panel.height + 46, title=title, description=told)
    )


def curves(
    series: Mapping[tuple[str, str], Sequence[Point]], *, title: str, x_label: str, panels: Sequence[str]
) -> str:
    """Lines over x by (panel, series); a panel has a scale of its own, a series one colour in all of them."""
    own = {name: {kind: points for (panel, kind), points in series.items() if panel == name} for name in panels}
    every_x = [x for points in series.values() for x, _ in points]
    drawn = svg.grid(len(panels), 170, svg.padded(every_x, share=0.03), (0, 1))
    kinds = list(dict.fromkeys(kind for _, kind in series))
    for name, panel in zip(panels, drawn, strict=True):
        panel.y_range = svg.padded([y for points in own[name].values() for _, y in points])
        panel.title(name)
        panel.y_axis(svg.decimals(3))
        panel.x_axis(_plain, label=x_label)
        for kind, points in own[name].items():
            number = kinds.index(kind) % COLOURS
            panel.add(svg.polyline([(panel.x(x), panel.y(y)) for x, y in points], f"curve s{number}"))
            panel.add(
                *(svg.marker(panel.x(x), panel.y(y), number, f"{name}/{kind} {x:g}: {y:.4f}", 3) for x, y in points)
            )
    height = _add_legend(drawn, kinds)
    told = ", ".join("/".join(key) for key in series)
    return standalone(svg.figure(drawn, width=svg.WIDTH, height=height, title=title, description=told))


def scatter(groups: Mapping[str, Mapping[str, Sequence[Point]]], *, title: str) -> str:
    """One panel per group, all on the same axes; a group's series are coloured by name."""
    every = [point for series in groups.values() for points in series.values() for point in points]
    panels = svg.grid(len(groups), 320, svg.padded([x for x, _ in every]), svg.padded([y for _, y in every]))
    kinds = list(dict.fromkeys(name for series in groups.values() for name in series))
    for (group, series), panel in zip(groups.items(), panels, strict=True):
        panel.title(group, f"{sum(map(len, series.values())):,} rows")
        panel.x_axis(_plain)
        panel.y_axis(_plain)
        marks = [
            [svg.marker(panel.x(x), panel.y(y), kinds.index(name) % COLOURS, "", 1.4) for x, y in points]
            for name, points in series.items()
        ]
        # One of each in turn: a series drawn last as a whole would hide the others.
        panel.add(*(mark for turn in zip_longest(*marks, fillvalue="") for mark in turn))
    height = _add_legend(panels, kinds)
    told = ", ".join(f"{group}: {', '.join(series)}" for group, series in groups.items())
    return standalone(svg.figure(panels, width=svg.WIDTH, height=height, title=title, description=told))


def _add_legend(panels: Sequence[Panel], names: Sequence[str]) -> float:
    """Names of the series below the panels; returns the figure's height."""
    top = svg.grid_height(panels) + 14
    for number, name in enumerate(names):
        at = top + 20 * number
        panels[-1].add(svg.marker(66, at, number % COLOURS), svg.text(80, at + 4, name, css="name"))
    return top + 20 * len(names)


def _plain(value: float) -> str:
    return f"{value:g}"
