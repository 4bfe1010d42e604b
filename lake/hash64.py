"""XXH64 of a text with Spark's seed: `user_key` and hashed ids, for steps without Spark."""

from __future__ import annotations

import struct
from collections.abc import Iterator

SEED = 42
_P1, _P2, _P3 = 0x9E3779B185EBCA87, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9
_P4, _P5 = 0x85EBCA77C2B2AE63, 0x27D4EB2F165667C5
_MASK = 2**64 - 1


def hash64(text: str) -> int:
    """What Spark's `xxhash64` gives for one text: an int64."""
    data = text.encode()
    whole = len(data) // 32 * 32
    state = _stripes(data[:whole]) if whole else (SEED + _P5) & _MASK
    state = (state + len(data)) & _MASK
    for part, size in _tail(data[whole:]):
        if size == 8:
            state = (_rotate(state ^ _round(0, part), 27) * _P1 + _P4) & _MASK
        elif size == 4:
            state = (_rotate(state ^ (part * _P1 & _MASK), 23) * _P2 + _P3) & _MASK
        else:
            state = _rotate(state ^ (part * _P5 & _MASK), 11) * _P1 & _MASK
    state = (state ^ (state >> 33)) * _P2 & _MASK
    state = (state ^ (state >> 29)) * _P3 & _MASK
    state ^= state >> 32
    return state - 2**64 if state >= 2**63 else state


def _stripes(data: bytes) -> int:
    """The state after whole stripes of 32 bytes, four lanes of 8 bytes each."""
    lanes = [(SEED + _P1 + _P2) & _MASK, (SEED + _P2) & _MASK, SEED, (SEED - _P1) & _MASK]
    for stripe in struct.iter_unpack("<4Q", data):
        lanes = [_round(lane, part) for lane, part in zip(lanes, stripe, strict=True)]
    state = sum(_rotate(lane, bits) for lane, bits in zip(lanes, (1, 7, 12, 18), strict=True)) & _MASK
    for lane in lanes:
        state = ((state ^ _round(0, lane)) * _P1 + _P4) & _MASK
    return state


def _tail(data: bytes) -> Iterator[tuple[int, int]]:
    """(number, its bytes): eights, then at most one four, then single bytes."""
    while data:
        size = 8 if len(data) >= 8 else 4 if len(data) >= 4 else 1
        yield int.from_bytes(data[:size], "little"), size
        data = data[size:]


def _round(lane: int, part: int) -> int:
    return _rotate((lane + part * _P2) & _MASK, 31) * _P1 & _MASK


def _rotate(value: int, bits: int) -> int:
    return ((value << bits) | (value >> (64 - bits))) & _MASK
