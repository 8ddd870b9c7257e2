"""The values of given ranks among float64 values that are computed piece by piece.

Model: a sample foresees a range of values for each rank. One pass counts how many values lie below
a range, and gathers those within it. Where the sample was wrong, or a range holds too many values
to gather, passes count 16 bits of the value each: the bits of a positive float64 order like the
number.
Invariant: exact, whatever the sample holds.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Protocol

import numpy as np

from raylab.compiled import njit, types
from raylab.reduce.intrinsics import lowest_bit, on_stack

Array = np.ndarray
Say = Callable[[Array], Array]
"""What is said of the values of a piece, float64 (entries,), none negative."""


class Values(Protocol):
    """A pass over all values."""

    def __call__(self, say: Say, share: int = 1) -> list[Array]:
        """What `say` says of each piece, in their order; of each piece, one row of `share`."""


Ranks = Callable[[int, int], Sequence[int]]
"""The ranks that are asked for, 0 of the smallest value, of so many values and zeros among them."""

_STEPS, _BITS = 1 << 16, 16
_BLOCK = 1024
_SHARE = 16
"""One of so many rows is in the sample."""
_MOST = 1 << 22
_MARGIN = 0.01
"""The share of the sample on either side of a rank that its range takes in."""
_OPTIONS: dict[str, Any] = {"error_model": "numpy"}
_SUMS, _U64, _I64, _F64 = types.float64[::1], types.uint64, types.int64, types.float64
_ONE = np.uint64(1)


def values_at(values: Values, ranks: Ranks) -> list[float]:
    """The values of `ranks`."""
    seen = np.sort(np.concatenate(values(np.copy, _SHARE)))
    ranges = _foreseen(seen, ranks)
    parts = values(partial(_gathered, ranges))
    heads = np.stack([part[: 2 + len(ranges)] for part in parts]).sum(axis=0)
    count, zeros, *below = heads.astype(np.int64).tolist()
    found = []
    for place, rank in enumerate(ranks(count, zeros)):
        within = _within(parts, place, len(ranges))
        at = rank - below[place]
        if rank < zeros:
            found.append(0.0)
        elif 0 <= at < len(within):
            found.append(float(np.partition(within, at)[at]))
        else:
            found.append(_by_steps(values, rank))
    return found


def _foreseen(seen: Array, ranks: Ranks) -> list[tuple[float, float]]:
    """The range of each rank; one that nothing lies in where it would hold too much."""
    count, zeros = len(seen), int(np.searchsorted(seen, 0.0, side="right"))
    ranges = []
    for rank in ranks(count, zeros) or [count]:
        margin = math.ceil(_MARGIN * count + 4 * math.sqrt(count))
        first, last = rank - margin, rank + margin
        low = float(seen[min(first, count - 1)]) if first >= 0 else 0.0
        high = float(seen[last]) if last < count else math.inf
        held = np.searchsorted(seen, high, side="right") - np.searchsorted(seen, max(low, 5e-324))
        ranges.append((low, high) if held <= _MOST // _SHARE else (math.inf, math.inf))
    return ranges


def _gathered(ranges: Sequence[tuple[float, float]], values: Array) -> Array:
    """How many values there are, zeros, and values below each range; then the sizes of what each
    range holds, and this."""
    memory = np.empty(values.size)
    counts, parts = [float(values.size), float(_count_below(values, 0.0))], []
    for low, high in ranges:
        counts.append(float(_count_below(values, np.nextafter(low, -1.0) if low else 0.0)))
        parts.append(memory[: _gather(values, low, high, memory)].copy())
    return np.concatenate([counts, [len(part) for part in parts], *parts])


def _within(parts: Sequence[Array], place: int, ranges: int) -> Array:
    """What range number `place` holds, of all pieces."""
    found = []
    for part in parts:
        ends = 2 + 2 * ranges + np.cumsum(part[2 + ranges : 2 + 2 * ranges]).astype(np.int64)
        start = ends[place - 1] if place else 2 + 2 * ranges
        found.append(part[start : ends[place]])
    return np.concatenate(found)


def _by_steps(values: Values, rank: int) -> float:
    prefix = 0
    for shift in range(64 - _BITS, -1, -_BITS):
        within = (prefix, min(shift + _BITS, 63), shift)
        counts = np.sum(values(partial(_counted, *within)), axis=0)
        ends = np.cumsum(counts)
        step = int(np.searchsorted(ends, rank, side="right"))
        rank -= int(ends[step] - counts[step])
        prefix = (prefix << _BITS) | step
    return float(np.uint64(prefix).view(np.float64))


def _counted(prefix: int, prefix_shift: int, shift: int, values: Array) -> Array:
    counts = np.zeros(_STEPS, np.int64)
    _count_steps(values, np.uint64(prefix), prefix_shift, shift, counts)
    return counts


@njit(types.void(_SUMS, _U64, _I64, _I64, _I64[::1]), **_OPTIONS)
def _count_steps(
    values: Array, prefix: np.uint64, prefix_shift: int, shift: int, counts: Array
) -> None:
    bits, steps = values.view(np.uint64), np.uint64(counts.size - 1)
    for i in range(bits.size):
        if bits[i] >> np.uint64(prefix_shift) == prefix:
            counts[np.int64((bits[i] >> np.uint64(shift)) & steps)] += 1


@njit(_I64(_SUMS, _F64), **_OPTIONS)
def _count_below(values: Array, most: float) -> int:
    """How many values are at most `most`."""
    count = 0
    for i in range(values.size):
        count += values[i] <= most
    return count


@njit(**_OPTIONS)
def _mark(block: Array, low: float, high: float, marks: Array) -> None:
    for i in range(block.size):
        marks[i] = np.uint8((block[i] >= low) & (block[i] <= high) & (block[i] > 0))


@njit(_I64(_SUMS, _F64, _F64, _SUMS), **_OPTIONS)
def _gather(values: Array, low: float, high: float, into: Array) -> int:
    """Write what is not zero and lies in [low, high] into `into`; return how many that are."""
    marks = on_stack(_BLOCK, np.uint8)
    marks[:] = 0
    words = marks.view(np.uint64)
    count = 0
    for start in range(0, values.size, _BLOCK):
        block = values[start : min(values.size, start + _BLOCK)]
        _mark(block, low, high, marks)
        marks[block.size :] = 0
        for w in range(words.size):
            word = words[w]
            while word != 0:
                into[count] = block[np.uint64(w * 8) + (lowest_bit(word) >> np.uint64(3))]
                word &= word - _ONE
                count += 1
    return count
