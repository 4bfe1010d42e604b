"""Adapter `generated`: a deterministic impression log with planted truth, the default data set.

Seed and day alone determine the rows of a day. Preference is a product of user factors and item tastes (rank 4); users
of a segment and items of a category are alike, so that a model can generalise. A share of the items, whole categories
of them, have the same taste in every scenario: their impressions are also useful training examples in other scenarios.
The other items have independently drawn tastes in each scenario: their impressions mislead other scenarios. Tastes
drift by one random step per day.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import date

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pyspark.sql import DataFrame, SparkSession

from jobs.transforms.raw_columns import CLICK_PROBABILITY, IS_SHAREABLE, REFUSED_DETAIL, REFUSED_REASON, SOURCE
from schemas.blocks import DaysSpec
from schemas.dataset_spec import DatasetSpec
from schemas.errors import DatasetSpecError
from schemas.source_spec import GeneratorSpec

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

RANK = 4
NUM_SEGMENTS, NUM_CATEGORIES, NUM_DEVICES, NUM_TAGS = 6, 12, 3, 24
MEAN_SESSION_ROWS = 6.0
DAY_MS = 86_400_000
# Weights of the click logit's parts, chosen so that the true probabilities reach an AUC of .80 to .85.
TASTE, ITEM_BIAS, USER_BIAS, SCENARIO_BIAS, CONTEXT = 1.15, 0.45, 0.4, 0.25, 0.2
OWN_SHARE = 0.35  # share of the variance of a user's or item's taste that is its own, not its group's
_DRIFT_STREAM = 1  # keeps a day's drift apart from its rows
_PURCHASE_STREAM = 2  # and purchases, which change nothing else of the log
# Of the logit of a purchase after a click: about one click in six, more where the item is to the user's taste.
PURCHASE_BASE, PURCHASE_TASTE = -2.0, 0.8


@dataclass(frozen=True, kw_only=True)
class World:
    """What does not change from day to day. U users, I items, K scenarios, R rank."""

    user_factor_UR: Floats
    user_bias_U: Floats
    user_segment_U: Ints
    user_device_U: Ints
    user_weight_U: Floats
    item_taste_KIR: Floats
    item_bias_KI: Floats
    item_category_I: Ints
    item_price_I: Floats
    item_tags_I: list[str]
    item_weight_I: Floats
    is_shareable_I: NDArray[np.bool_]
    scenario_bias_K: Floats
    device_bias_KD: Floats


def read(spark: SparkSession, dataset: DatasetSpec, ds: date) -> DataFrame:
    """The day's rows; see `make_day`."""
    return spark.createDataFrame(make_day(dataset, ds))


def make_day(dataset: DatasetSpec, ds: date) -> pa.Table:
    """The log of one day with its truth columns, broken records included; a function of the data set and `ds` alone."""
    spec = dataset.source.generator or GeneratorSpec()
    shares = _shares(spec, dataset)
    world = make_world(spec, len(shares))
    rng = np.random.default_rng([spec.seed, ds.toordinal()])
    time_N, user_N, item_N, scenario_N = _visits(rng, spec, world, shares, dataset.days, ds)
    taste_KIR = world.item_taste_KIR + _drift(spec, world, dataset.days.start, ds)
    probability_N = _click_probability(spec, world, taste_KIR, user_N, item_N, scenario_N)
    click_N = (rng.random(len(user_N)) < probability_N).astype(np.int64)
    names = np.array(dataset.scenario.names)
    rows = pa.table(
        {
            "event_time": time_N,
            "user": _names("u", spec.num_users).take(pa.array(user_N)),
            "item": _names("i", spec.num_items).take(pa.array(item_N)),
            "scene": pa.array(names[scenario_N], pa.string()),
            "click": click_N,
            "price": world.item_price_I[item_N],
            "user_segment": _names("s", NUM_SEGMENTS).take(pa.array(world.user_segment_U[user_N])),
            "device": pa.array(["phone", "tablet", "desktop"]).take(pa.array(world.user_device_U[user_N])),
            "item_category": _names("c", NUM_CATEGORIES).take(pa.array(world.item_category_I[item_N])),
            "item_tags": pa.array(world.item_tags_I).take(pa.array(item_N)),
            "hour": (time_N % DAY_MS) // 3_600_000,
            CLICK_PROBABILITY: probability_N,
            IS_SHAREABLE: world.is_shareable_I[item_N],
        }
    )
    if spec.purchases:
        place = rows.column_names.index("click") + 1
        rows = rows.add_column(place, "purchase", pa.array(_purchases(spec, world, user_N, item_N, click_N, ds)))
    broken = _break_some(rows, rng, spec.broken_rows)
    nothing = pa.nulls(broken.num_rows, pa.string())
    source = pa.array([f"generated-{spec.seed}-{ds}"] * broken.num_rows)
    for name, column in ((SOURCE, source), (REFUSED_REASON, nothing), (REFUSED_DETAIL, nothing)):
        broken = broken.append_column(name, column)
    return broken


def make_world(spec: GeneratorSpec, num_scenarios: int) -> World:
    """Users, items and scenarios of a seed."""
    rng = np.random.default_rng(spec.seed)
    users, items, scenarios = spec.num_users, spec.num_items, num_scenarios
    segment_U = rng.integers(NUM_SEGMENTS, size=users)
    segment_GR = rng.normal(size=(NUM_SEGMENTS, RANK))
    category_I = np.sort(rng.integers(NUM_CATEGORIES, size=items))
    shareable_I = np.arange(items) < round(spec.shareable_items * items)
    # Ids are shuffled, so that an id reveals neither popularity nor shareability
    order = rng.permutation(items)
    category_I, shareable_I = category_I[order], shareable_I[order]
    common_IR = _tastes(rng, category_I)
    own_KIR = np.stack([_tastes(rng, category_I) for _ in range(scenarios)])
    common_bias_I, own_bias_KI = rng.normal(size=items), rng.normal(size=(scenarios, items))
    tags_I = [
        "|".join(f"t{tag}" for tag in sorted({2 * category, *extra}))
        for category, extra in zip(category_I.tolist(), rng.integers(NUM_TAGS, size=(items, 2)).tolist(), strict=True)
    ]
    return World(
        user_factor_UR=_mixed(segment_GR[segment_U], rng.normal(size=(users, RANK))),
        user_bias_U=rng.normal(size=users),
        user_segment_U=segment_U,
        user_device_U=rng.integers(NUM_DEVICES, size=users),
        user_weight_U=_zipf(rng, users, 0.7),
        item_taste_KIR=np.where(shareable_I[None, :, None], common_IR[None], own_KIR),
        item_bias_KI=np.where(shareable_I[None, :], common_bias_I[None], own_bias_KI),
        item_category_I=category_I,
        item_price_I=np.asarray(np.exp(rng.normal(3.0, 0.8, size=items)).round(2), dtype=np.float64),
        item_tags_I=tags_I,
        item_weight_I=_zipf(rng, items, 0.8),
        is_shareable_I=shareable_I,
        scenario_bias_K=rng.normal(size=scenarios),
        device_bias_KD=rng.normal(size=(scenarios, NUM_DEVICES)),
    )


def _tastes(rng: np.random.Generator, category_I: Ints) -> Floats:
    """A taste per item [I, R]: its category's plus noise of its own."""
    category_CR = rng.normal(size=(NUM_CATEGORIES, RANK))
    return _mixed(category_CR[category_I], rng.normal(size=(len(category_I), RANK)))


def _mixed(group: Floats, own: Floats) -> Floats:
    """Unit variance from the group's part and the member's own."""
    return math.sqrt(1 - OWN_SHARE) * group + math.sqrt(OWN_SHARE) * own


def _zipf(rng: np.random.Generator, size: int, exponent: float) -> Floats:
    """Zipf popularities of `size` things in random order; they sum to 1."""
    weights = rng.permutation(1.0 / np.arange(1, size + 1) ** exponent)
    return _normalised(weights)


def _visits(
    rng: np.random.Generator, spec: GeneratorSpec, world: World, shares: Floats, days: DaysSpec, ds: date
) -> tuple[Ints, Ints, Ints, Ints]:
    """Time (ms), user, item and scenario of each row: users come in sessions of one scenario, most in the afternoon."""
    rows = spec.rows_per_day
    lengths = rng.geometric(1 / MEAN_SESSION_ROWS, size=rows)  # a session has at least one row: enough for all
    sessions = int(np.searchsorted(np.cumsum(lengths), rows)) + 1
    session_N = np.repeat(np.arange(sessions), lengths[:sessions])[:rows]
    user_S = rng.choice(spec.num_users, size=sessions, p=world.user_weight_U)
    scenario_S = rng.choice(len(shares), size=sessions, p=shares)
    start_S = rng.beta(3.0, 2.0, size=sessions) * (DAY_MS - 1)
    gap_N = rng.exponential(25_000, size=rows)
    elapsed_N = np.cumsum(gap_N)
    first_N = np.searchsorted(session_N, session_N)
    time_N = np.minimum(start_S[session_N] + elapsed_N - elapsed_N[first_N], DAY_MS - 1).astype(np.int64)
    midnight = int(days.midnight(ds).timestamp() * 1000)
    item_N = rng.choice(spec.num_items, size=rows, p=world.item_weight_I)
    order = np.argsort(time_N, kind="stable")
    return midnight + time_N[order], user_S[session_N][order], item_N[order], scenario_S[session_N][order]


def _drift(spec: GeneratorSpec, world: World, start: date, ds: date) -> Floats:
    """How far tastes have moved since `start` [K, I, R]: a sum of daily steps, each drawn from its day alone."""
    scenarios, items, rank = world.item_taste_KIR.shape
    moved_KIR = np.zeros((scenarios, items, rank))
    for ordinal in range(start.toordinal() + 1, ds.toordinal() + 1):
        rng = np.random.default_rng([spec.seed, ordinal, _DRIFT_STREAM])
        common_IR, own_KIR = rng.normal(size=(items, rank)), rng.normal(size=(scenarios, items, rank))
        moved_KIR += spec.drift * np.where(world.is_shareable_I[None, :, None], common_IR[None], own_KIR)
    return moved_KIR


def _click_probability(
    spec: GeneratorSpec, world: World, taste_KIR: Floats, user_N: Ints, item_N: Ints, scenario_N: Ints
) -> Floats:
    taste_N = np.einsum("nr,nr->n", world.user_factor_UR[user_N], taste_KIR[scenario_N, item_N]) / np.sqrt(RANK)
    logit_N = (
        spec.base_logit
        + TASTE * taste_N * 1.5
        + ITEM_BIAS * world.item_bias_KI[scenario_N, item_N]
        + USER_BIAS * world.user_bias_U[user_N]
        + SCENARIO_BIAS * world.scenario_bias_K[scenario_N]
        + CONTEXT * world.device_bias_KD[scenario_N, world.user_device_U[user_N]]
    )
    probability_N: Floats = 1 / (1 + np.exp(-logit_N))
    return probability_N


def _purchases(spec: GeneratorSpec, world: World, user_N: Ints, item_N: Ints, click_N: Ints, ds: date) -> Ints:
    """1 where a click was followed by a purchase: a taste of user and item that is the same in all scenarios and days,
    and the item's appeal to buyers.
    """
    of_world = np.random.default_rng([spec.seed, _PURCHASE_STREAM])
    wish_IR, appeal_I = of_world.normal(size=(spec.num_items, RANK)), of_world.normal(size=spec.num_items)
    taste_N = np.einsum("nr,nr->n", world.user_factor_UR[user_N], wish_IR[item_N]) / np.sqrt(RANK)
    logit_N = PURCHASE_BASE + PURCHASE_TASTE * (taste_N + appeal_I[item_N])
    drawn_N = np.random.default_rng([spec.seed, ds.toordinal(), _PURCHASE_STREAM]).random(len(user_N))
    bought_N: Ints = (drawn_N < 1 / (1 + np.exp(-logit_N))).astype(np.int64) * click_N
    return bought_N


def _break_some(rows: pa.Table, rng: np.random.Generator, share: float) -> pa.Table:
    """Break about `share` of the rows (at least one unless it is 0) in five ways in turn. The number of rows stays."""
    count = min(rows.num_rows, max(1, round(share * rows.num_rows))) if share else 0
    if count == 0:
        return rows
    broken = rng.choice(rows.num_rows, size=count, replace=False)
    kind = np.full(rows.num_rows, -1)
    kind[broken] = np.arange(count) % 5
    # Kind 4 repeats the whole row before it (the first repeats the one after it)
    source = np.arange(rows.num_rows)
    twins = broken[kind[broken] == 4]
    source[twins] = np.where(twins > 0, twins - 1, min(1, rows.num_rows - 1))
    rows = rows.take(pa.array(source))
    return _with_changes(
        rows,
        {
            "user": (kind == 0, None),
            "click": (kind == 1, 7),
            "event_time": (kind == 2, pc.subtract(rows["event_time"], 2 * DAY_MS)),
            "scene": (kind == 3, "popup"),
        },
    )


def _with_changes(rows: pa.Table, changes: dict[str, tuple[NDArray[np.bool_], object]]) -> pa.Table:
    for name, (where, value) in changes.items():
        index = rows.column_names.index(name)
        column = rows[name]
        new = value if isinstance(value, pa.ChunkedArray) else pa.scalar(value, column.type)
        rows = rows.set_column(index, name, pc.if_else(pa.array(where), new, column))
    return rows


def _names(prefix: str, count: int) -> pa.Array:
    return pa.array([f"{prefix}{n}" for n in range(count)])


def _shares(spec: GeneratorSpec, dataset: DatasetSpec) -> Floats:
    shares = np.array(spec.scenario_shares, dtype=np.float64)
    if len(shares) != dataset.num_scenarios or (shares <= 0).any():
        raise DatasetSpecError(
            f"source.generator.scenario_shares: {list(spec.scenario_shares)} must hold one positive share for each of "
            f"the {dataset.num_scenarios} scenarios {list(dataset.scenario.names)}"
        )
    return _normalised(shares)


def _normalised(weights: Floats) -> Floats:
    shares: Floats = weights / weights.sum()
    return shares
