"""Every registered model with towers is a source of shared instances, under every form of the search."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import combinations
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from msr_models.models.finetune import Finetune
from msr_models.models.registry import known_models, model_class
from msr_models.models.single_task import ScenarioCopies
from msr_models.modules.embedding import FieldEmbedding
from msr_models.ssim import search as search_module
from msr_models.ssim.joint import learn_jointly
from msr_models.ssim.search import run_search
from msr_models.ssim.search_state import SearchState
from msr_models.ssim.selector import vectors_of_tables
from schemas.errors import TrainingError
from schemas.pipeline_spec import SearchSpec
from tests.support.planted_log import planted_log

SOURCES = [name for name in known_models() if model_class(name).has_towers]
FORMS: dict[str, dict[str, Any]] = {
    "reference": {"objective": "reference"},
    "joint": {"objective": "joint"},
    "sampled": {"objective": "joint", "tower_sample": 1},
}


SMALL: dict[str, Any] = {
    "warmup_epochs": 2,  # `finetune` has one tower in the first
    "epochs": 1,
    "batch_size": 128,
    "embedding_dim": 8,
    "hidden": (16, 8),
    "selector_hidden": (8,),
}


@pytest.fixture
def warm(monkeypatch: pytest.MonkeyPatch) -> list[Tensor]:
    """Logits [N, K] of every tower as they are when the gate starts to learn."""
    found: list[Tensor] = []

    def watched(learn: Callable[[SearchState], None]) -> Callable[[SearchState], None]:
        def learn_watched(state: SearchState) -> None:
            state.model.eval()
            batch = state.window.batch(torch.arange(len(state.window)))
            with torch.no_grad():
                found.append(state.model.scenario_logits(state.model.embed(batch), batch))
            learn(state)

        return learn_watched

    for name in ("learn_gate_from_reference", "learn_jointly"):
        monkeypatch.setattr(search_module, name, watched(getattr(search_module, name)))
    return found


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", SOURCES)
def test_a_search_runs_from_every_source(name: str, form: str, warm: list[Tensor]) -> None:
    window = planted_log(rows=400, users=30, items=20, shares=(3, 2, 1)).window
    result = run_search(window, SearchSpec(backbone=name, **FORMS[form], **SMALL))
    (logits_NK,) = warm
    for j, k in combinations(range(window.num_scenarios), 2):
        assert float((logits_NK[:, j] - logits_NK[:, k]).abs().mean()) > 1e-4, f"towers {j} and {k} are one"
    assert np.isfinite(result.probs_N).all() and ((result.probs_N > 0) & (result.probs_N < 1)).all()
    assert all(np.isfinite(curve["loss"]) for curve in result.curves)
    assert np.ptp(result.probs_N) > 0
    assert np.isfinite(float(result.metrics["logloss"] or np.nan))
    assert result.selector.embedding.width == 8 * (3 if issubclass(model_class(name), ScenarioCopies) else 1)


def _tables(state: SearchState) -> list[FieldEmbedding]:
    assert isinstance(state.model, ScenarioCopies)
    tables = [copy.embedding for copy in state.model.copies]
    assert all(isinstance(table, FieldEmbedding) for table in tables)
    return [table for table in tables if isinstance(table, FieldEmbedding)]


def test_copies_with_rows_of_their_own_width_are_refused() -> None:
    """Their projections do not lie side by side."""
    window = planted_log(rows=400, users=30, items=20, shares=(3, 2, 1)).window
    layout = window.layout.with_own_dims({window.layout.names[0]: 2})
    with pytest.raises(TrainingError, match=r"search.backbone 'single_task'.*embedding_dim"):
        SearchState(replace(window, layout=layout), SearchSpec(backbone="single_task", **SMALL))


@pytest.mark.parametrize("name", ["single_task", "finetune"])
def test_the_selector_reads_and_trains_the_tables_of_all_copies(name: str) -> None:
    """The first copy's alone has seen the rows of one scenario."""
    window = planted_log(rows=400, users=30, items=20, shares=(3, 2, 1)).window
    state = SearchState(window, SearchSpec(backbone=name, objective="joint", **SMALL))
    tables = _tables(state)
    batch = window.batch(torch.arange(64))
    for table in tables:
        table.row_gradient = False  # so that autograd keeps it
    state.selector(vectors_of_tables(state.embeddings, batch), batch.scenario_B).sum().backward()
    assert all(table.weight.grad is not None and table.weight.grad.abs().max() > 0 for table in tables)
    state = SearchState(window, state.spec)
    tables = _tables(state)
    learn_jointly(state)
    adopted = state.selector.embedding.get_parameter("weight")
    assert torch.equal(adopted, torch.cat([table.weight for table in tables], dim=1))
    assert not torch.equal(tables[0].weight, tables[1].weight)


def test_pretraining_ends_once_with_a_fresh_optimiser_and_a_search_made_again_is_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    window = planted_log(rows=400, users=30, items=20, shares=(3, 2, 1)).window
    spec = SearchSpec(backbone="finetune", backbone_options={"pretraining_epochs": 2}, **(SMALL | {"warmup_epochs": 3}))
    first = run_search(window, spec)
    events: list[int | str] = []
    run_epoch, end = SearchState.epoch, Finetune.end_pretraining

    def counted(state: SearchState, *arguments: Any) -> None:
        if arguments[0] == "warm-up":
            events.append(int(state.optimiser.steps))
        run_epoch(state, *arguments)

    def watched(model: Finetune) -> None:
        events.append("end")
        end(model)

    monkeypatch.setattr(SearchState, "epoch", counted)
    monkeypatch.setattr(Finetune, "end_pretraining", watched)
    again = run_search(window, spec)
    assert events == [0, 3, "end", 0], "steps done before each epoch: behind the second the optimiser starts anew"
    assert np.array_equal(first.probs_N, again.probs_N) and first.curves == again.curves


@pytest.mark.parametrize(
    ("settings", "epochs"),
    [({"objective": "joint", "warmup_epochs": 0}, 0), ({"warmup_epochs": 1}, 1), ({"warmup_epochs": 2}, 2)],
)
def test_a_warm_up_without_an_epoch_behind_the_pretraining_is_refused(settings: dict[str, Any], epochs: int) -> None:
    window = planted_log(rows=400, users=30, items=20, shares=(3, 2, 1)).window
    spec = SearchSpec(backbone="finetune", backbone_options={"pretraining_epochs": 2}, **(SMALL | settings))
    told = rf"search\.warmup_epochs {epochs} leaves .*pretraining_epochs 2 .*'finetune'.*warmup_epochs to 3 or more"
    with pytest.raises(TrainingError, match=told):
        run_search(window, spec)
