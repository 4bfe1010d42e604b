"""The model benchmark times every registered model on rows that feed it, next to SharedBottom on the same ones."""

from __future__ import annotations

import argparse
import dataclasses
from typing import Any

import pytest
import torch

from benchmarks import bench_models
from benchmarks.bench_models import BEHAVIOURS, SHARES, TimedSteps, base_of, form_of, measure, window_of
from msr_models.models.base_dnn import BaseDNN
from msr_models.models.registry import known_models, parse_options
from msr_models.models.shared_bottom import SharedBottom
from schemas.errors import TrainingError


@pytest.fixture(autouse=True)
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench_models, "BATCH", 32)


@pytest.mark.parametrize("name", known_models())
def test_a_form_changes_no_option_but_what_is_read_of_behaviours(name: str) -> None:
    form, default = form_of(name), parse_options(name, {})
    config = parse_options(name, form.options)
    changed = {f.name for f in dataclasses.fields(default) if getattr(default, f.name) != getattr(config, f.name)}
    assert changed <= {"sequence_pooling"}
    if form.behaviours:
        assert not changed and form.behaviours == BEHAVIOURS
    else:
        assert getattr(config, "sequence_pooling", None) == "none"


def test_behaviours_are_for_those_that_cannot_be_without_and_then_for_their_base_too() -> None:
    forms = [form_of(name) for name in known_models()]
    needy = [form for form in forms if form.behaviours]
    assert {"sfpnet", "dffm"} <= {form.model for form in needy} and len(needy) < len(forms)
    for form in (form_of("star"), form_of("sfpnet")):
        base = base_of(form)
        assert (base.model, base.behaviours) == ("shared_bottom", form.behaviours)
        assert base.options["sequence_pooling"] == ("din" if form.behaviours else "none")


def test_every_row_has_all_its_behaviours_of_real_items() -> None:
    window = window_of(form_of("sfpnet"), 100_000, 3)
    batch = window.batch(torch.arange(len(window)))
    assert batch.hist_ids_BLA.shape == (len(window), BEHAVIOURS, 1)
    items = window.layout.num_rows[window.layout.item_field]
    assert int(batch.hist_ids_BLA.min()) > 0 and int(batch.hist_ids_BLA.max()) < items
    assert int(window_of(form_of("star"), 100_000, 3).batch(torch.arange(9)).hist_ids_BLA.max()) == 0


@pytest.mark.parametrize("name", ["finetune", "star"])
def test_steps_train_the_model_as_it_ends_with_the_share_that_is_asked_for(name: str) -> None:
    steps = TimedSteps(form_of(name), window_of(form_of(name), 100_000, 3))
    assert steps.model.pretraining_epochs == 0 and steps.model.training
    before = [p.detach().clone() for p in steps.model.parameters()]
    assert steps.seconds(0.1) > 0
    assert any(not torch.equal(p, was) for p, was in zip(steps.model.parameters(), before, strict=True))
    shared = {share: torch.cat([next(steps.batches[share]).shared_B for _ in range(4)]) for share in SHARES}
    assert not shared[0.0].any() and 0 < int(shared[0.1].sum()) < 40


class _Clock:
    """Stands in for TimedSteps: seconds as they are listed, by share."""

    def __init__(self, log: list[str], name: str, *seconds: float) -> None:
        self.log, self.name, self.left = log, name, {share: list(seconds) for share in SHARES}

    def seconds(self, share: float) -> float:
        self.log.append(self.name)
        return self.left[share].pop(0)


def test_steps_take_turns_and_a_ratio_is_the_median_of_rounds() -> None:
    log: list[str] = []
    own: Any = _Clock(log, "own", 99.0, 2.0, 4.0, 40.0)
    base: Any = _Clock(log, "base", 1.0, 1.0, 1.0, 20.0)
    found = measure(own, base, 3, 0.0)
    assert log == ["base", "own"] * 8
    assert found == dict.fromkeys(SHARES, (4.0, 0.5))


def test_a_quick_model_is_measured_longer() -> None:
    own: Any = _Clock([], "own", *[0.25] * 10)
    base: Any = _Clock([], "base", *[0.25] * 10)
    measure(own, base, 1, 2.5)  # a round, of two shares and two steps each, takes a second
    assert len(own.left[0.1]) == 10 - 1 - 3


def test_a_slow_model_has_to_give_its_reason() -> None:
    class Silent(BaseDNN):
        """Slow."""

    class Open(Silent):
        """Cost: it sleeps."""

    class Heir(Open):
        """What it builds on says why."""

    given = [bench_models.gives_reason(model) for model in (SharedBottom, Silent, Open, Heir)]
    assert given == [False, False, True, True]


@pytest.mark.parametrize(
    ("name", "ratio", "met", "said"),
    [
        ("base_dnn", 0.5, True, "0.50x"),
        ("base_dnn", 0.4, False, "gives no reason"),
        ("hmoe", 0.4, True, "gives the reason"),
        ("hmoe", 0.6, True, "0.60x"),
    ],
)
def test_the_bar_is_half_or_a_reason(name: str, ratio: float, met: bool, said: str) -> None:
    target = bench_models.target_of(name, ratio)
    assert target.met is met and target.measured.endswith(said)


def test_a_run_gives_each_model_a_row_per_scenario_count_and_one_bar() -> None:
    models = ["base_dnn", "sfpnet", "shared_bottom"]
    options = argparse.Namespace(models=models, scenarios=(3, 12), rounds=1, seconds=0.0, table_rows=100_000, threads=1)
    table, targets = bench_models.compare(options)
    assert sorted(tuple(row[:3]) for row in table.rows) == [
        (name, k, BEHAVIOURS if name == "sfpnet" else 0) for name in models for k in (3, 12)
    ]
    assert all(isinstance(cell, int | float) and cell > 0 for row in table.rows for cell in row[3:])
    assert sorted(target.what for target in targets) == [f"{name}, K 12" for name in models]


def test_names_are_all_models_or_those_of_a_list_and_known() -> None:
    assert bench_models.named(None) == known_models()
    assert bench_models.named("star,mmoe,star") == ["star", "mmoe"]
    with pytest.raises(TrainingError, match="did you mean 'star'"):
        bench_models.named("sta")
