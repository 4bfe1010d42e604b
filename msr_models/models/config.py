"""Options that many models have, and the types of options: strict, so that `"8"` or `true` is no number."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

from pydantic import ConfigDict, Field

from msr_models.modules.inputs import SequencePooling

Flag = Annotated[bool, Field(strict=True)]
Size = Annotated[int, Field(strict=True, ge=1)]
NoWidths = tuple[Size, ...]
"""Widths of layers, bottom up; may be empty."""
Widths = Annotated[NoWidths, Field(min_length=1)]
Dropout = Annotated[float, Field(strict=True, ge=0, lt=1)]
Share = Annotated[float, Field(strict=True, ge=0, le=1)]
Weight = Annotated[float, Field(strict=True, ge=0)]
Positive = Annotated[float, Field(strict=True, gt=0)]


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelConfig:
    """Base of every model's options: unknown options, infinities and NaN are errors."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid", allow_inf_nan=False)


@dataclass(frozen=True, kw_only=True, slots=True)
class TowerConfig(ModelConfig):
    """embedding_dim: D. hidden: widths of the hidden layers that end in the logit, bottom up (of each tower where there
    are several). sequence_pooling: see InputLayer. wide: add a linear model of all ids, see WidePart; no model's paper
    has one. The default sizes suit one day of a small log on a CPU.
    """

    embedding_dim: Size = 16
    hidden: Widths = (128, 64)
    dropout: Dropout = 0.0
    sequence_pooling: SequencePooling = "mean"
    wide: Flag = False
