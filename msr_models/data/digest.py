"""Digests of content: 64-bit keys of rows, and sums that do not depend on the order in which rows are read."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date

import numpy as np

from msr_models.data.columns import Array

_GOLDEN = 0x9E3779B97F4A7C15
_MASK = 2**64 - 1


def mix_int(value: int) -> int:
    """One step of splitmix64: a bijection of 64 bits in which each bit depends on all."""
    value = (value + _GOLDEN) & _MASK
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & _MASK
    return value ^ (value >> 31)


def mix(values_N: Array) -> Array:
    """`mix_int` of each uint64."""
    mixed = values_N + np.uint64(_GOLDEN)
    mixed ^= mixed >> np.uint64(30)
    mixed *= np.uint64(0xBF58476D1CE4E5B9)
    mixed ^= mixed >> np.uint64(27)
    mixed *= np.uint64(0x94D049BB133111EB)
    mixed ^= mixed >> np.uint64(31)
    return mixed


def row_keys(instance_N: Array, ds: date) -> Array:
    """uint64 of (ds, instance_id), the same wherever the row lies; distinct within a day."""
    return mix(instance_N.view(np.uint64) ^ np.uint64(mix_int(ds.toordinal())))


def uniforms(key_N: Array, seed: int) -> Array:
    """A float64 in [0, 1) of each row's key, another for each seed: a draw that does not depend on other rows."""
    return (mix(key_N ^ np.uint64(mix_int(seed))) >> np.uint64(11)) * 2.0**-53


class RowDigest:
    """A sum of hashes of rows, 128 bits: rows may come in any order and in pieces of any size."""

    def __init__(self) -> None:
        self._sums = [0, 0]

    def add(self, key_N: Array, columns: Sequence[Array]) -> None:
        """Add rows: their keys (uint64) and the values that belong to them, [N] or [N, C] of 32 or 64 bits."""
        hash_N = key_N.copy()
        flat = [part for column in columns for part in (column.T if column.ndim == 2 else [column])]
        for i, part in enumerate(flat):
            bits = part.view(np.uint32 if part.itemsize == 4 else np.uint64).astype(np.uint64)
            bits *= np.uint64(mix_int(i) | 1)
            hash_N += bits
        hash_N = mix(hash_N)
        self._sums[0] = (self._sums[0] + int(hash_N.sum())) & _MASK
        self._sums[1] = (self._sums[1] + int(mix(hash_N).sum())) & _MASK

    def text(self) -> str:
        """32 hex digits."""
        return f"{self._sums[0]:016x}{self._sums[1]:016x}"
