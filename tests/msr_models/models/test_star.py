"""STAR against its formulas; its moments in training, eval, search and several processes."""

from __future__ import annotations

import copy
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from msr_models.models.registry import build_model
from msr_models.models.star import Star
from msr_models.modules.routing import Routing
from msr_models.ssim.objective import gated_logits
from msr_models.training.processes import Processes, join_processes
from msr_models.training.step import reuse_loss
from tests.support.batches import LAYOUT, random_batch, take


def build(num_scenarios: int = 3, **options: object) -> Star:
    small = {"embedding_dim": 4, "hidden": [6, 5], "auxiliary_hidden": 7}
    model = build_model("star", small | options, LAYOUT, num_scenarios, 1)
    assert isinstance(model, Star)
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(0.5 * torch.randn(parameter.shape, generator=generator))
    return model


def transcribed(model: Star, e: torch.Tensor, k: int, mean: torch.Tensor, var: torch.Tensor) -> torch.Tensor:
    """Logit of one row for scenario k, given the moments that count."""
    norm, aux = model.norm, model.auxiliary
    assert aux.scenario_KD is not None and aux.scenario_weight_DH is not None
    z = (norm.scale_E * norm.own_scale_KE[k]) * (e - mean) / torch.sqrt(var + 1e-5)
    z = z + norm.shift_E + norm.own_shift_KE[k]
    *layers, last = model.towers.layers
    for layer in layers:
        z = (z @ (layer.weight_IO * layer.own_weight_KIO[k]) + layer.bias_O + layer.own_bias_KO[k]).relu()
    main = z @ (last.weight_IO * last.own_weight_KIO[k])[:, 0] + last.bias_O[0] + last.own_bias_KO[k, 0]
    joined = torch.cat([e, aux.scenario_KD[k]]) @ torch.cat([aux.weight_EH, aux.scenario_weight_DH])
    return main + (joined + aux.bias_H).relu() @ aux.head_H + aux.head_bias[0]


@pytest.mark.parametrize("training", [True, False])
def test_logit_is_main_plus_auxiliary_with_the_moments_of_the_phase(training: bool) -> None:
    model, batch = build().train(training), random_batch(30, 3, share=0.3)
    with torch.no_grad():
        model.norm.running_mean_KE.normal_(generator=torch.Generator().manual_seed(4))
    e_BE, visits = model.embed(batch), model.visit(batch)
    want = []
    for row, k in zip(visits.row_index_V.tolist(), visits.scenario_V.tolist(), strict=True):
        mine = e_BE[(batch.scenario_B == k) | batch.shared_B]
        mean, var = mine.mean(0), mine.var(0, correction=0)
        if not training:
            mean, var = model.norm.running_mean_KE[k], model.norm.running_var_KE[k]
        want.append(transcribed(model, e_BE[row], k, mean, var))
    torch.testing.assert_close(visits.logits_V, torch.stack(want), atol=1e-3, rtol=1e-3)


def test_a_trained_model_scores_a_row_in_eval_the_same_alone_and_among_others() -> None:
    model, batch = build(), random_batch(60, 3)
    for seed in range(3):
        model(random_batch(60, 3, seed=seed))
    together, before = model.eval()(batch), copy.deepcopy(model.state_dict())
    for i in (0, 7, 31):
        torch.testing.assert_close(model(take(batch, torch.tensor([i])))[0], together[i], atol=1e-5, rtol=1e-5)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


def test_in_a_search_the_rows_that_train_a_tower_make_its_moments() -> None:
    """The others are scored without gradients, by running moments, and are not remembered."""
    model, batch = build(), random_batch(40, 3, share=0.4)
    searched, trained = copy.deepcopy(model), copy.deepcopy(model)
    logits_BK, _ = gated_logits(searched, batch, batch.shared_B.float())
    visits = trained.visit(batch)
    at_visits = logits_BK[visits.row_index_V, visits.scenario_V]
    torch.testing.assert_close(at_visits, visits.logits_V, atol=1e-5, rtol=1e-5)
    for name, buffer in trained.named_buffers():
        torch.testing.assert_close(searched.get_buffer(name), buffer)
    rest = Routing.of_mask(
        torch.ones(3, 40, dtype=torch.bool).index_put((visits.scenario_V, visits.row_index_V), torch.tensor(False))
    )
    by_running = model.eval().routed_logits(model.embed(batch), batch, rest)
    torch.testing.assert_close(logits_BK[rest.row_index_V, rest.scenario_V], by_running, atol=1e-5, rtol=1e-5)
    assert len(by_running) > 20


def learn(out: str) -> None:
    """Gradients and moments of three batches; of the last, one process has no row."""
    torch.set_num_threads(1)
    model = build()
    with join_processes() as processes:
        assert isinstance(processes, Processes)
        for seed, rows in enumerate((31, 40, 1)):
            batch = random_batch(rows, 3, seed=seed, share=0.3)
            mine = take(batch, torch.arange(rows)[processes.rank :: processes.world])
            loss_B = reuse_loss(model.visit(mine), mine.label_B, mine.shared_B, 3)
            (loss_B.sum() / rows).backward()
        parameters = list(model.parameters())
        processes.sum_gradients(parameters)
        gradients = {f"grad {name}": p.grad for name, p in model.named_parameters()}
        torch.save(dict(model.named_buffers()) | gradients, f"{out}.{processes.rank}")


@pytest.mark.slow
def test_two_processes_have_the_moments_and_gradients_of_one(tmp_path: Path) -> None:
    learn(str(tmp_path / "one"))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    root, out = str(Path(__file__).parents[3]), str(tmp_path / "two")
    code = f"import sys; sys.path.insert(0, {root!r}); from tests.msr_models.models.test_star import learn; "
    one_host = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "GLOO_SOCKET_IFNAME": "lo"}
    started = [
        subprocess.Popen(
            [sys.executable, "-c", code + f"learn({out!r})"],
            env=os.environ | one_host | {"RANK": str(rank), "OMP_NUM_THREADS": "1"},
        )
        for rank in range(2)
    ]
    try:
        assert [p.wait(timeout=60) for p in started] == [0, 0]
    finally:
        for p in started:
            p.kill()
    one, first, second = (torch.load(tmp_path / name) for name in ("one.0", "two.0", "two.1"))
    for key, value in one.items():
        assert torch.equal(first[key], second[key]), key
        torch.testing.assert_close(first[key], value, atol=1e-5, rtol=1e-4, msg=key)
