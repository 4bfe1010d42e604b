"""Calibration after training: a monotone map per scenario from a model's probability to the one that is served.

Fitted on validation rows. `temperature` is σ(a z), `platt` σ(a z + b) of the logit z, both with a > 0, so that they
change no AUC; `isotonic` is the monotone step function of least squares, which may make ties. Small scenarios borrow
from all rows together: a scenario's line is shrunk towards the line of all rows, and that towards the identity.

Suffixes: N rows, K scenarios, G groups.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, get_args

import numpy as np

from msr_models.evaluation.blocks import Array, Floats, Ints, weighted_rows
from schemas.errors import TrainingError
from schemas.pipeline_spec import CalibrationMethod

FORMAT = 1
# Rows of either class that a curve of its own needs; scenarios with fewer use the curve of all rows.
MIN_CLASS_ROWS = {"temperature": 10, "platt": 10, "isotonic": 200}
# The prior: standard deviations of (slope, intercept) of all rows around (1, 0), and of a scenario's around those. A
# scenario of some 150 to 400 rows stands half-way between its own rows and all of them.
POOLED_SD, SCENARIO_SD = (0.5, 1.0), (0.1, 0.2)
# A model that ranks a scenario's rows no better than chance still keeps its order.
MIN_SLOPE = 0.05
_STEPS, _HALVINGS, _TOLERANCE = 100, 30, 1e-10
_EPS = float(np.finfo(np.float64).eps)


@dataclass(frozen=True, kw_only=True, slots=True)
class Curve:
    """One scenario's map, and the validation rows it was fitted on. of_all_rows: the scenario itself has too few.

    σ(slope z + intercept) of the logit z, or, where `predicted` is not empty, `observed` interpolated between the
    ascending probabilities `predicted` and constant outside.
    """

    rows: int
    positives: int
    of_all_rows: bool
    slope: float = 1.0
    intercept: float = 0.0
    predicted: tuple[float, ...] = ()
    observed: tuple[float, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Calibration:
    """A curve per scenario, in the order of `scenarios`.

    >>> calibration = fit_calibration("platt", prob_N, label_N, scenario_N, ("home", "ads"))
    >>> served_N = calibration.apply(prob_N, scenario_N)
    """

    method: CalibrationMethod
    scenarios: tuple[str, ...]
    curves: tuple[Curve, ...]

    def apply(self, prob_N: Array, scenario_N: Array) -> Floats:
        """Calibrated probabilities, float64, of probabilities from each row's own scenario (ids 0 .. K - 1)."""
        prob_N, scenario_N = np.asarray(prob_N, dtype=np.float64), np.asarray(scenario_N, dtype=np.int64)
        if self.method == "none":
            return prob_N
        if self.method != "isotonic":
            slope_K, intercept_K = np.array([[c.slope, c.intercept] for c in self.curves]).T
            return _sigmoid(slope_K[scenario_N] * _logit(prob_N) + intercept_K[scenario_N])
        out_N = prob_N.copy()
        for k, curve in enumerate(self.curves):
            if curve.predicted:
                here_N = scenario_N == k
                out_N[here_N] = np.interp(prob_N[here_N], curve.predicted, curve.observed)
        return out_N

    @property
    def borrowing(self) -> list[str]:
        """Scenarios that use the curve of all rows."""
        return [name for name, c in zip(self.scenarios, self.curves, strict=True) if c.of_all_rows]

    def to_json(self) -> str:
        """Sorted keys, one line; the same calibration gives the same text."""
        return json.dumps({"format": FORMAT, **asdict(self)}, sort_keys=True)

    def digest(self) -> str:
        """sha256 of `to_json`."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()


def parse_calibration(text: str, where: str) -> Calibration:
    """Inverse of `Calibration.to_json`. Raises TrainingError, which begins with `where`, for anything else."""
    try:
        raw: dict[str, Any] = json.loads(text)
        if raw.pop("format") != FORMAT or raw["method"] not in get_args(CalibrationMethod):
            raise ValueError("unknown format or method")
        curves = tuple(map(_curve, raw.pop("curves")))
        found = Calibration(method=raw.pop("method"), scenarios=tuple(raw.pop("scenarios")), curves=curves, **raw)
        if len(found.curves) != len(found.scenarios):
            raise ValueError(f"{len(found.curves)} curves for {len(found.scenarios)} scenarios")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise TrainingError(
            f"{where} is not a calibration of format {FORMAT} ({error}); train the run again"
        ) from error
    return found


def _curve(raw: dict[str, Any]) -> Curve:
    ends: dict[str, Any] = {name: tuple(raw.pop(name)) for name in ("predicted", "observed")}
    return Curve(**raw, **ends)


def read_calibration(path: Path, sha256: str | None = None) -> Calibration:
    """The calibration in a run's calibration.json.

    Raises TrainingError where the file is missing, damaged, or not the one of `sha256` (the manifest's).
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise TrainingError(f"calibration {path} cannot be read ({error}); train the run again") from error
    found = parse_calibration(text, f"calibration {path}")
    if sha256 is not None and hashlib.sha256(text.encode()).hexdigest() != sha256:
        raise TrainingError(f"calibration {path} is not the one of sha256 {sha256}: it is another run's; train again")
    return found


def fit_calibration(
    method: CalibrationMethod,
    prob_N: Array,
    label_N: Array,
    scenario_N: Array,
    scenarios: Sequence[str],
    weight_N: Array | None = None,
) -> Calibration:
    """Fit one curve per scenario on labelled rows; the order of the rows changes no bit of it.

    A scenario with fewer than MIN_CLASS_ROWS of either class uses the curve of all rows, and that is the identity
    where all rows together have too few. weight_N: how many rows each stands for, in MIN_CLASS_ROWS and against the
    prior too; a curve's `rows` and `positives` are the rows themselves, without those of weight 0.
    """
    num_scenarios = len(scenarios)
    weight_N, (prob_N, label_N, scenario_N) = weighted_rows(weight_N, prob_N, label_N, scenario_N)
    order_N = np.lexsort((*([] if weight_N is None else [weight_N]), label_N, prob_N, scenario_N))
    prob_N, scenario_N = np.asarray(prob_N, dtype=np.float64)[order_N], np.asarray(scenario_N)[order_N]
    label_N = (np.asarray(label_N)[order_N] == 1).astype(np.float64)
    weight_N = np.ones_like(label_N) if weight_N is None else weight_N[order_N]
    rows_K = np.bincount(scenario_N, minlength=num_scenarios)
    positives_K = np.bincount(scenario_N, weights=label_N, minlength=num_scenarios).astype(np.int64)
    mass_K2 = np.stack(
        [np.bincount(scenario_N, weights=weight_N * (label_N == c), minlength=num_scenarios) for c in (0, 1)], axis=1
    )
    if method == "none":
        shapes: list[dict[str, Any]] = [{}] * num_scenarios
        borrows_K = np.zeros(num_scenarios, dtype=np.bool_)
    else:
        least = MIN_CLASS_ROWS[method]
        borrows_K = mass_K2.min(1) < least
        is_known = mass_K2.sum(0).min() >= least
        fit = _isotonic if method == "isotonic" else _lines
        shapes = fit(method, prob_N, label_N, weight_N, scenario_N, borrows_K) if is_known else [{}] * num_scenarios
    curves = [
        Curve(rows=int(rows_K[k]), positives=int(positives_K[k]), of_all_rows=bool(borrows_K[k]), **shapes[k])
        for k in range(num_scenarios)
    ]
    return Calibration(method=method, scenarios=tuple(scenarios), curves=tuple(curves))


def _lines(
    method: CalibrationMethod, prob_N: Floats, label_N: Floats, weight_N: Floats, scenario_N: Ints, borrows_K: Array
) -> list[dict[str, Any]]:
    """Slope and intercept of each scenario: first the line of all rows, around the identity, then each around that."""
    logit_N, num_scenarios = _logit(prob_N), len(borrows_K)
    shifts, together_N = method == "platt", np.zeros_like(scenario_N)
    identity, prior_sd = np.array([1.0, 0.0]), np.array(POOLED_SD)
    pooled = _Lines(logit_N, label_N, weight_N, together_N, 1, identity, prior_sd, shifts).solve()[0]
    prior_sd = np.array(SCENARIO_SD)
    line_K2 = _Lines(logit_N, label_N, weight_N, scenario_N, num_scenarios, pooled, prior_sd, shifts).solve()
    line_K2[borrows_K] = pooled
    return [{"slope": float(a), "intercept": float(b)} for a, b in line_K2]


@dataclass(frozen=True, slots=True)
class _Lines:
    """Lines (slope, intercept) of G groups of rows by penalised maximum likelihood.

    The loss of a group is its cross entropy in nats, plus that of a normal prior with mean `prior` and deviations
    `prior_sd`. Without `shifts` the intercept stays that of `prior`.
    """

    logit_N: Floats
    label_N: Floats
    weight_N: Floats
    group_N: Ints
    groups: int
    prior: Floats
    prior_sd: Floats
    shifts: bool

    def solve(self) -> Floats:
        """[G, 2]; slopes are at least MIN_SLOPE."""
        start_G2, free_G2 = np.tile(self.prior, (self.groups, 1)), np.tile([True, self.shifts], (self.groups, 1))
        line_G2 = self._newton(start_G2, free_G2)
        # The loss is convex: where its minimum has too small a slope, the constrained one lies on the border
        flat_G1 = line_G2[:, :1] < MIN_SLOPE
        start_G2 = np.where(flat_G1, [MIN_SLOPE, self.prior[1]], line_G2)
        return self._newton(start_G2, flat_G1 & [False, self.shifts])

    def _newton(self, line_G2: Floats, free_G2: Array) -> Floats:
        """Newton's method in all groups at once, a step halved where it does not lower the group's loss."""
        loss_G = self._loss(line_G2)
        for _ in range(_STEPS):
            step_G2 = self._step(line_G2, free_G2)
            if np.abs(step_G2).max(initial=0.0) < _TOLERANCE:
                break
            for _ in range(_HALVINGS):
                tried_G = self._loss(line_G2 - step_G2)
                worse_G = tried_G > loss_G
                if not worse_G.any():
                    break
                step_G2[worse_G] /= 2
            step_G2[worse_G] = 0.0
            line_G2 = line_G2 - step_G2
            loss_G = self._loss(line_G2)
        return line_G2

    def _sum(self, value_N: Floats) -> Floats:
        return np.bincount(self.group_N, weights=self.weight_N * value_N, minlength=self.groups).astype(np.float64)

    def _scores(self, line_G2: Floats) -> Floats:
        return np.asarray(line_G2[self.group_N, 0] * self.logit_N + line_G2[self.group_N, 1])

    def _loss(self, line_G2: Floats) -> Floats:
        z_N = self._scores(line_G2)
        penalty_G2 = ((line_G2 - self.prior) / self.prior_sd) ** 2 / 2
        return np.asarray(self._sum(np.logaddexp(0, z_N) - self.label_N * z_N) + penalty_G2.sum(1))

    def _step(self, line_G2: Floats, free_G2: Array) -> Floats:
        """Inverse Hessian times gradient of each group's loss, in its free parameters."""
        x_N, p_N = self.logit_N, _sigmoid(self._scores(line_G2))
        error_N, weight_N, precision = p_N - self.label_N, p_N * (1 - p_N), self.prior_sd**-2.0
        gradient_G2 = np.stack([self._sum(error_N * x_N), self._sum(error_N)], 1)
        gradient_G2 += precision * (line_G2 - self.prior)
        a_G, b_G = self._sum(weight_N * x_N * x_N) + precision[0], self._sum(weight_N) + precision[1]
        both_G = self._sum(weight_N * x_N) * free_G2.all(1)
        g_G, h_G = (gradient_G2 * free_G2).T
        step_G2 = np.stack([b_G * g_G - both_G * h_G, a_G * h_G - both_G * g_G], 1)
        return np.where(free_G2, step_G2 / (a_G * b_G - both_G**2)[:, None], 0.0)


def _isotonic(
    method: CalibrationMethod, prob_N: Floats, label_N: Floats, weight_N: Floats, scenario_N: Ints, borrows_K: Array
) -> list[dict[str, Any]]:
    """Isotonic regression of each scenario, rows sorted by scenario and probability."""
    order_N = np.argsort(prob_N, kind="stable")
    pooled = _steps(prob_N[order_N], label_N[order_N], weight_N[order_N])
    first_K = np.searchsorted(scenario_N, np.arange(len(borrows_K) + 1))
    parts = [slice(*ends) for ends in pairwise(first_K.tolist())]
    return [
        pooled if borrows_K[k] else _steps(prob_N[part], label_N[part], weight_N[part]) for k, part in enumerate(parts)
    ]


def _steps(prob_N: Floats, label_N: Floats, weight_N: Floats) -> dict[str, Any]:
    """Pools adjacent violators of rows in ascending order (equal probabilities are one value).

    Kept one pseudo-row away from 0 and 1, which no finite sample shows: 1 / (N + 2) .. 1 - 1 / (N + 2), with the sum of
    weights as N.
    """
    value_U, first_U = np.unique(prob_N, return_index=True)
    positives_U, rows_U = np.add.reduceat(weight_N * label_N, first_U), np.add.reduceat(weight_N, first_U)
    # Blocks as [positives, rows, first value, last value]
    blocks: list[list[float]] = []
    for positives, rows, value in zip(positives_U.tolist(), rows_U.tolist(), value_U.tolist(), strict=True):
        blocks.append([positives, rows, value, value])
        while len(blocks) > 1 and blocks[-2][0] * blocks[-1][1] >= blocks[-1][0] * blocks[-2][1]:
            positives, rows, _, last = blocks.pop()
            blocks[-1] = [blocks[-1][0] + positives, blocks[-1][1] + rows, blocks[-1][2], last]
    least = 1 / (float(rows_U.sum()) + 2)
    ends = [(end, positives / rows) for positives, rows, *both in blocks for end in dict.fromkeys(both)]
    observed = np.clip([rate for _, rate in ends], least, 1 - least)
    return {"predicted": tuple(end for end, _ in ends), "observed": tuple(observed.tolist())}


def _logit(prob_N: Floats) -> Floats:
    prob_N = np.clip(prob_N, _EPS, 1 - _EPS)
    return np.asarray(np.log(prob_N) - np.log1p(-prob_N))


def _sigmoid(z_N: Floats) -> Floats:
    return np.asarray(np.exp(-np.logaddexp(0, -z_N)))
