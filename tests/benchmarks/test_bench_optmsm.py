"""The OptMSM benchmark compares models of the same sizes, each part taken away by itself, step by step."""

from __future__ import annotations

import argparse

import pytest

from benchmarks import bench_optmsm
from benchmarks.bench_optmsm import ALL_TOWERS, BASE, EXACT, FRAME, PARTS, WHOLE, TimedStep, forms_of, increase
from benchmarks.synthetic import synthetic_window
from msr_models.models.registry import build_model, parse_options

TRANSFERS = ("FCN", "MoE", "CGC")


@pytest.mark.parametrize("transfer", TRANSFERS)
def test_forms_differ_in_what_their_labels_say(transfer: str) -> None:
    forms = {form.label: form for form in forms_of(transfer, 3)}
    configs = {label: parse_options(form.model, form.options) for label, form in forms.items()}
    whole = configs[WHOLE]
    for part in PARTS:
        without = configs[f"OptMSM without {part}"]
        assert [name for name in PARTS if not getattr(without, name)] == [part]
    assert not any(getattr(configs[FRAME], part) for part in PARTS)
    assert all(getattr(whole, part) for part in PARTS) and whole.contrasts_per_row < 0.1
    assert configs[EXACT].contrasts_per_row == 3
    assert configs[BASE] == configs[ALL_TOWERS] and [f.label for f in forms.values() if f.all_towers] == [ALL_TOWERS]


@pytest.mark.parametrize("transfer", TRANSFERS)
def test_a_base_has_the_networks_of_its_transfer(transfer: str) -> None:
    """Weights of the widths 256-128 and 128-32: as many in the base as in OptMSM (without SE gate and hypernetwork)."""
    layout = synthetic_window(8, 100_000, 3, 0.0).layout
    numbers = []
    for form in (f for f in forms_of(transfer, 3) if f.label in (BASE, FRAME)):
        model = build_model(form.model, form.options, layout, 3, 1)
        inner = [p for p in model.parameters() if p.shape[-1] in (128, 32) and {256, 128} & set(p.shape[:-1])]
        numbers.append(sum(p.numel() for p in inner))
    assert numbers[0] == numbers[1] > 100_000


def test_a_row_visits_every_tower_in_one_form_only() -> None:
    window = synthetic_window(64, 100_000, 3, 0.0)
    for form in forms_of("FCN", 3):
        step = TimedStep(form, window)
        assert bool(next(step.batches).shared_B.all()) is form.all_towers


def test_an_increase_is_the_median_of_rounds() -> None:
    taken = {BASE: [1.0, 2.0, 10.0], WHOLE: [1.1, 2.0, 20.0]}
    assert increase(taken, WHOLE, BASE) == pytest.approx(0.1)


def test_a_run_gives_every_form_a_row_and_every_part_a_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench_optmsm, "BATCH", 32)
    options = argparse.Namespace(cases=[("FCN", 3), ("FCN", 2)], rounds=1, table_rows=100_000)
    (table, parts), targets = bench_optmsm.compare(options)
    assert len(table.rows) == 16 and all(isinstance(row[3], float) and row[3] > 0 for row in table.rows)
    assert [row[-1] for row in parts.rows] == ["+4.7%", None]
    assert len(targets) == 2
