"""Two processes train like one, also when the last batch is shorter than the number of processes."""

from __future__ import annotations

import logging
import os
import re
import socket
import subprocess
import sys
from dataclasses import replace
from datetime import date
from importlib import import_module
from pathlib import Path

import pytest
import torch

from msr_models.data.source import ResidentRows
from msr_models.data.window import load_window
from msr_models.models.registry import build_model
from msr_models.training.processes import join_processes
from msr_models.training.trainer import train
from schemas.pipeline_spec import LossBalance, TrainerConfig
from tests.support.log_lines import log_lines
from tests.support.tiny_lake import tiny_dataset, write_masks, write_tiny_lake

DAYS = [date(2026, 1, 2), date(2026, 1, 3)]


def main(out: str, balance: LossBalance, weighted: bool) -> None:
    torch.set_num_threads(1)
    window = load_window(tiny_dataset(), DAYS, shared_set_id="set").with_ratio(0.5)
    if weighted:  # uneven between the two processes, which take turns in a batch
        window = replace(window, weight_N=torch.arange(len(window)).remainder(5).float() / 2)
    config = TrainerConfig(batch_size=66, max_epochs=2, patience=9, learning_rate=0.01, weight_decay=0.0, seed=3)
    config = config.model_copy(update={"loss_balance": balance})
    model = build_model("shared_bottom", {"embedding_dim": 4, "hidden": [8]}, window.layout, 3, 1)
    logging.getLogger("msr_models").setLevel(logging.INFO)
    with join_processes() as processes:
        reports = logging.getLogger("msr_models.training.trainer").isEnabledFor(logging.INFO)
        # 199 rows in batches of 66: the last batch has one row, so that one of two processes has none
        training = ResidentRows(window, window.rows_of(DAYS[:1])[:199])
        validation = ResidentRows(window, window.rows_of(DAYS[1:]))
        with log_lines("msr_models.training.trainer") as lines:
            train(model, training, validation, config, processes=processes)
        losses = [float(re.findall(r"train loss ([\d.]+)", line)[0]) for line in lines]
        found = {"losses": torch.tensor(losses), "reports": torch.tensor(reports)}
        torch.save(model.state_dict() | found, f"{out}.{processes.rank}")


def leave() -> None:
    """Join and leave, and fail where a thread of the group is left: now and then it aborts the process at its end."""
    with join_processes() as processes:
        # As parts of torch do on first use: its functions take the group that exists by then as their default
        import_module("torch.distributed.nn.functional")
        processes.sum_value(torch.ones(1))
    names = [(task / "comm").read_text() for task in Path("/proc/self/task").iterdir()]
    assert not [name for name in names if "gloo" in name]


def run_two(call: str) -> list[int]:
    """The exit statuses of two processes that join each other and call a function of this module."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    root = str(Path(__file__).parents[3])
    here = f"import sys; sys.path.insert(0, {root!r}); from tests.msr_models.training import test_processes as here; "
    alike = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "GLOO_SOCKET_IFNAME": "lo"}
    started = [
        subprocess.Popen(
            [sys.executable, "-c", f"{here}here.{call}"],
            env=os.environ | alike | {"RANK": str(rank), "OMP_NUM_THREADS": "1"},
        )
        for rank in range(2)
    ]
    return [process.wait(timeout=120) for process in started]


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="counts the threads of a process as Linux lists them")
def test_the_group_is_gone_when_the_processes_have_left_it() -> None:
    assert run_two("leave()") == [0, 0]


@pytest.mark.slow
@pytest.mark.parametrize(("balance", "weighted"), [("rows", False), ("scenarios", False), ("scenarios", True)])
def test_two_processes_give_the_same_model_as_one(
    lake: Path, tmp_path: Path, balance: LossBalance, weighted: bool
) -> None:
    spec = tiny_dataset()
    write_tiny_lake(spec, DAYS, rows_per_day=200)
    write_masks(spec, "set", DAYS, rows_per_day=200)
    main(str(tmp_path / "one"), balance, weighted)
    assert run_two(f"main({str(tmp_path / 'two')!r}, {balance!r}, {weighted})") == [0, 0]
    one, first, second = (torch.load(tmp_path / name) for name in ("one.0", "two.0", "two.1"))
    assert [bool(found.pop("reports")) for found in (one, first, second)] == [True, True, False], "one process reports"
    losses, of_two, of_silent = (found.pop("losses") for found in (one, first, second))
    assert (len(losses), len(of_silent)) == (2, 0)
    torch.testing.assert_close(of_two, losses, atol=1e-4, rtol=1e-3)
    for key, value in one.items():
        assert torch.equal(first[key], second[key]), key
        torch.testing.assert_close(first[key], value, atol=1e-4, rtol=1e-3)
