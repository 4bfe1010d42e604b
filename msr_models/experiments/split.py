"""Split: the training, validation and test rows of an experiment, one window each."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, fields, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from msr_models.data.source import ResidentRows
from msr_models.data.window import Window
from schemas.errors import TrainingError

# The parts of a window that influence training and metrics
_CONTENT = (
    "day_N", "user_key_N", "scenario_N", "label_N", "slot_ids_NS",
    "hist_start_N", "hist_end_N", "hist_ids_HA", "hist_scenario_H",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True, slots=True)
class Split:
    """Training, validation and test rows of one source.

    name: the source as given. shareable_N: truth of the training rows if known. fingerprint: digest of the content of
    all three windows.
    """

    name: str
    train: Window
    validation: Window
    test: Window
    shareable_N: NDArray[np.bool_] | None = None
    fingerprint: str = field(init=False)

    def __post_init__(self) -> None:
        for part in ("train", "validation", "test"):
            if not len(getattr(self, part)):
                raise TrainingError(f"{self.name} has no {part} rows; take more rows or more days")
        object.__setattr__(self, "fingerprint", _fingerprint(self))

    @property
    def num_scenarios(self) -> int:
        return self.train.num_scenarios

    @property
    def scenario_names(self) -> tuple[str, ...]:
        return self.train.scenario_names

    def to(self, device: str) -> Split:
        """The same split with its windows on `device`."""
        parts = {part: getattr(self, part).to(device) for part in ("train", "validation", "test")}
        return replace(self, **parts) if device != "cpu" else self


def split_rows(
    name: str, window: Window, parts: tuple[Tensor, Tensor, Tensor], shareable_N: NDArray[np.bool_] | None = None
) -> Split:
    """Split a window by the positions of its training, validation and test rows; shareable_N is of all its rows."""
    train, validation, test = (select_rows(window, rows) for rows in parts)
    truth = None if shareable_N is None else shareable_N[parts[0].numpy()]
    return Split(name=name, train=train, validation=validation, test=test, shareable_N=truth)


def select_rows(window: Window, rows: Tensor) -> Window:
    """A window with only these rows (int64 positions), in this order; behaviours are not copied."""
    names = [f.name for f in fields(Window) if f.name.rstrip("S").endswith("_N")]
    columns = {name: getattr(window, name) for name in names}
    chosen: dict[str, Any] = {name: None if column is None else column[rows] for name, column in columns.items()}
    return replace(window, **chosen)


def one_scenario(window: Window, scenario: int | None = None, name: str = "all") -> Window:
    """The same rows, all in one scenario: `scenario` under the name `name`, or (None) all scenarios together.

    So are behaviours; those of other scenarios than `scenario` are of none.
    """
    happened_H = window.hist_scenario_H.clamp(max=0)
    if scenario is not None:
        happened_H = torch.where(window.hist_scenario_H == scenario, 0, -1).to(happened_H.dtype)
    return replace(
        window,
        scenario_names=(name,),
        scenario_N=torch.zeros_like(window.scenario_N),
        hist_scenario_H=happened_H,
    )


def all_rows(window: Window) -> ResidentRows:
    """Every row of a window, for the trainer."""
    return ResidentRows(window, torch.arange(len(window), device=window.label_N.device))


def in_time(rows: int, shares: tuple[int, int, int] = (80, 10, 10)) -> tuple[Tensor, Tensor, Tensor]:
    """Positions of the first, next and last rows; shares in percent."""
    first, second = rows * shares[0] // 100, rows * (shares[0] + shares[1]) // 100
    every = torch.arange(rows)
    return every[:first], every[first:second], every[second:]


def _fingerprint(split: Split) -> str:
    digest = hashlib.sha256()
    for window in (split.train, split.validation, split.test):
        digest.update(f"{window.scenario_names} {window.layout.to_dict()}".encode())
        for name in _CONTENT if window.weight_N is None else (*_CONTENT, "weight_N"):
            digest.update(np.ascontiguousarray(getattr(window, name).cpu().numpy()).data)
    return digest.hexdigest()[:16]
