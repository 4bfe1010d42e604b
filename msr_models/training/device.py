"""The device that --device names."""

from __future__ import annotations

import torch

from schemas.errors import TrainingError


def usable_device(device: str) -> str:
    """The torch device of --device; `auto`: a GPU where there is one. Raises TrainingError where it cannot be used."""
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.zeros(1, device=device)
        return device
    except (RuntimeError, AssertionError) as error:
        raise TrainingError(
            f"--device {device!r} cannot be used ({str(error).splitlines()[0]}); give --device cpu"
        ) from error
