"""Counts the magnitudes at each step of a range of bits, in compiled loops.

Model: the 31 bits of a float32 magnitude order like the magnitude (see `raylab.merge.trim`).
A pass over some rows adds, for every step of the range, how many entries lie in it, and how many
lie above the range. Where steps are single magnitudes, few entries are in the range: a loop
without branches marks these, and only marked entries are counted one by one. A range of one
magnitude needs no branch at all.
Invariant: counts are exact, in any order of the rows. `raylab.merge.torch_steps` counts the same
on any device.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from raylab.compiled import njit, types
from raylab.reduce.intrinsics import lowest_bit, on_stack

Array = np.ndarray

_BLOCK = 1024
_MAGNITUDE = np.uint32(0x7FFFFFFF)
_ONE = np.uint64(1)
_OPTIONS: dict[str, Any] = {"error_model": "numpy"}
_BITS, _U32, _COUNTS = types.uint32[::1], types.uint32, types.int64[::1]


@njit(types.void(_BITS, _U32, _U32, _U32, _COUNTS), **_OPTIONS)
def _tally_steps(bits: Array, first: np.uint32, last: np.uint32, shift: int, counts: Array) -> None:
    """Where steps are wide, most entries are in the range."""
    above = 0
    for i in range(bits.size):
        above += (bits[i] & _MAGNITUDE) > last
    counts[-1] += above
    for i in range(bits.size):
        # Below `first` it wraps, and is larger than any step of the range.
        beyond = (bits[i] & _MAGNITUDE) - first
        if beyond <= last - first:
            counts[np.int64(beyond >> shift)] += 1


@njit(**_OPTIONS)
def _mark(bits: Array, first: np.uint32, last: np.uint32, marks: Array) -> int:
    """Mark the entries in the range; return how many lie above it."""
    above = np.int32(0)
    for i in range(bits.size):
        magnitude = bits[i] & _MAGNITUDE
        above = np.int32(above + (magnitude > last))
        marks[i] = np.uint8(np.uint32(magnitude - first) <= np.uint32(last - first))
    return int(above)


@njit(types.void(_BITS, _U32, _U32, _COUNTS), **_OPTIONS)
def _tally_bits(bits: Array, first: np.uint32, last: np.uint32, counts: Array) -> None:
    """Where a step is one magnitude, few entries are in the range: only these are read again."""
    marks = on_stack(_BLOCK, np.uint8)
    marks[:] = 0
    words = marks.view(np.uint64)
    for start in range(0, bits.size, _BLOCK):
        block = bits[start : min(bits.size, start + _BLOCK)]
        counts[-1] += _mark(block, first, last, marks)
        marks[block.size :] = 0
        for w in range(words.size):
            word = words[w]
            while word != 0:
                place = np.uint64(w * 8) + (lowest_bit(word) >> np.uint64(3))
                word &= word - _ONE
                counts[np.int64((block[place] & _MAGNITUDE) - first)] += 1


@njit(types.void(_BITS, _U32, _COUNTS), **_OPTIONS)
def _tally_one(bits: Array, only: np.uint32, counts: Array) -> None:
    at, above = np.int32(0), np.int32(0)
    for i in range(bits.size):
        magnitude = bits[i] & _MAGNITUDE
        at = np.int32(at + (magnitude == only))
        above = np.int32(above + (magnitude > only))
    counts[0] += at
    counts[1] += above


def tally(delta: Array, first: int, last: int, shift: int, counts: Array) -> None:
    """Add to `counts` how many magnitudes of `delta`, as bits, lie at each step of 2^shift from
    `first` to `last`, and at its end how many lie above.

    delta: float32 (size,); counts: int64 (steps + 1,).
    """
    bits = delta.view(np.uint32)
    if first == last:
        _tally_one(bits, np.uint32(first), counts)
    elif shift:
        _tally_steps(bits, np.uint32(first), np.uint32(last), np.uint32(shift), counts)
    else:
        _tally_bits(bits, np.uint32(first), np.uint32(last), counts)
