"""scikit-learn, an optional dependency of research, on as many threads as PyTorch has."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from schemas.errors import TrainingError


def scikit(part: str) -> Any:
    """The module sklearn.<part>. Raises TrainingError where scikit-learn is not installed."""
    try:
        return importlib.import_module(f"sklearn.{part}")
    except ImportError as error:
        raise TrainingError(
            "scikit-learn is not installed; install the project's extra: pip install '.[train,tune]'"
        ) from error


@contextmanager
def torch_threads() -> Iterator[None]:
    """Within it scikit-learn uses PyTorch's number of threads: on more than are idle, its threads wait spinning."""
    from threadpoolctl import threadpool_limits  # comes with scikit-learn

    with threadpool_limits(torch.get_num_threads()):
        yield
