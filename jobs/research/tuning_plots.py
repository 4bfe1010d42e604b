"""Curves of validation scores over the values of each tuned parameter."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from optuna.trial import FrozenTrial, TrialState

from jobs.plotting import svg
from jobs.plotting.svg import COLOURS, Figure, Point
from jobs.research.tables import mean
from msr_models.experiments.search_space import Parameter, encoded
from msr_models.experiments.tuning import Tuning, shown_value

MEAN = "mean AUC"
WIDE = 10.0  # values that span this factor are drawn by their logarithm


@dataclass(frozen=True, kw_only=True, slots=True)
class ParameterPanel:
    """One parameter's values, ascending where they are numbers. labels: their texts; places: where each stands on the
    axis; scores: of the trials with it; scenarios: by scenario, of the same trials. logarithmic: places are log10.
    """

    name: str
    labels: Sequence[str]
    places: Sequence[float]
    scores: Sequence[Sequence[float]]
    scenarios: Sequence[Sequence[dict[str, float | None]]]
    logarithmic: bool
    is_numeric: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class Panels:
    """All parameters of more than one value. is_grid: every value has trials with all others; lines are their means."""

    panels: Sequence[ParameterPanel]
    series: Sequence[str]
    is_grid: bool

    @classmethod
    def of(cls, tuning: Tuning, trials: Sequence[FrozenTrial]) -> Panels:
        complete = [t for t in trials if t.state == TrialState.COMPLETE]
        panels = [_panel(name, p, complete) for name, p in tuning.space.parameters.items()]
        series = [MEAN, *tuning.runner.split.scenario_names]
        varied = [panel for panel in panels if len(panel.labels) > 1]
        return cls(panels=varied, series=series, is_grid=tuning.config.method == "grid")

    def means(self, panel: ParameterPanel, place: int) -> list[float | None]:
        """Of every series, over the trials with the value at this place."""
        of = panel.scenarios[place]
        return [mean(panel.scores[place]), *(mean([aucs.get(name) for aucs in of]) for name in self.series[1:])]


def sensitivity(shown: Panels, *, title: str) -> str:
    """A panel per parameter: of a grid, means by scenario; otherwise one mark per trial."""
    figures = svg.grid(max(len(shown.panels), 1), 170, (0, 1), (0, 1))
    names = list(shown.series) if shown.is_grid else ["trial"]
    for figure, panel in zip(figures, shown.panels, strict=False):
        points = _lines(shown, panel) if shown.is_grid else [_marks(panel)]
        figure.x_range = svg.padded(panel.places, share=0.05)
        figure.y_range = svg.padded([y for line in points for _, y in line])
        figure.title(panel.name)
        figure.y_axis(svg.decimals(3))
        if shown.is_grid or not panel.is_numeric:
            ticks = dict(zip(panel.places, panel.labels, strict=True))
            figure.x_axis(ticks.__getitem__, list(ticks))
        else:
            figure.x_axis(_power if panel.logarithmic else svg.plain)
        for number, line in enumerate(points):
            tips = [f"{names[number]} {panel.name}: {y:.4f}" for _, y in line]
            if shown.is_grid:
                figure.curve(line, number % COLOURS, tips, size=3)
            else:
                marks = zip(line, tips, strict=True)
                figure.add(*(svg.marker(figure.x(x), figure.y(y), number, tip, 3) for (x, y), tip in marks))
    description = "Validation score over " + ", ".join(panel.name for panel in shown.panels)
    return Figure(panels=figures, title=title, description=description, legend=svg.marker_keys(names)).standalone()


def _lines(shown: Panels, panel: ParameterPanel) -> list[list[Point]]:
    by_value = [(place, shown.means(panel, n)) for n, place in enumerate(panel.places)]
    return [
        [(place, value) for place, means in by_value if (value := means[number]) is not None]
        for number in range(len(shown.series))
    ]


def _marks(panel: ParameterPanel) -> list[Point]:
    return [(place, score) for place, scores in zip(panel.places, panel.scores, strict=True) for score in scores]


def _power(exponent: float) -> str:
    return f"{10**exponent:.1g}"


def _panel(name: str, parameter: Parameter, complete: Sequence[FrozenTrial]) -> ParameterPanel:
    values = list(dict.fromkeys(t.params[name] for t in complete))
    if parameter.choices is not None:
        values = [stored for c in parameter.choices if (stored := encoded(c)) in values]
    numeric = all(isinstance(v, int | float) and not isinstance(v, bool) for v in values)
    values = sorted(values) if numeric else values
    wide = numeric and bool(values) and values[0] > 0 and values[-1] / values[0] >= WIDE
    with_value = [[t for t in complete if t.params[name] == value] for value in values]
    return ParameterPanel(
        name=name,
        labels=[shown_value(value) for value in values],
        places=[(math.log10(v) if wide else float(v)) if numeric else float(n) for n, v in enumerate(values)],
        scores=[[t.value for t in trials if t.value is not None] for trials in with_value],
        scenarios=[[t.user_attrs.get("scenario_auc", {}) for t in trials] for trials in with_value],
        logarithmic=wide,
        is_numeric=numeric,
    )
