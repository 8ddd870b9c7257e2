"""The steps of merging, compiled: one pass over a tile for each step.

Model: the functions below are those of `raylab.reduce.methods`, which says what they mean and
cites the papers, and `tally`, which `raylab.reduce.trimming` finds thresholds with. Each is a loop
that numba compiles for the CPU that it runs on, and that writes into memory it is given: fresh
memory for every tile would cost more than the loops.

Why numba: in plain torch every operation of a step writes its result to memory, and the election
takes a dozen per model. Compiled, it keeps its four sums in blocks that stay in the first-level
cache, and is twenty times as fast (1.5 ns an entry for two models, where torch takes 31). numba
releases Python's lock, and keeps what it compiled on disk.
Invariant: the same bits as the reference in torch. No loop is compiled with relaxed arithmetic,
and no product is fused with a sum.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numba import njit

from raylab.reduce.intrinsics import lowest_bit
from raylab.reduce.methods import GAMMA, MIX_1, MIX_2

Array = np.ndarray

_BLOCK = 1024
_LARGEST = np.float32(3.4028234663852886e38)
_GAMMA, _MIX_1, _MIX_2 = np.uint64(GAMMA), np.uint64(MIX_1), np.uint64(MIX_2)
_MAGNITUDE = np.uint32(0x7FFFFFFF)
_ONE, _11, _27, _30, _31 = (np.uint64(number) for number in (1, 11, 27, 30, 31))
_INFINITE_FROM = {
    torch.bfloat16: (2 - 2.0**-8) * 2.0**127,
    torch.float16: (2 - 2.0**-11) * 2.0**15,
    torch.float32: (2 - 2.0**-24) * 2.0**127,
}
"""The smallest magnitude that rounds to infinity."""


@njit(cache=True, nogil=True, error_model="numpy")
def _non_finite(row: Array) -> int:
    count = 0
    for i in range(row.size):
        count += not abs(row[i]) <= _LARGEST
    return count


@njit(cache=True, nogil=True, error_model="numpy")
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


@njit(cache=True, nogil=True, error_model="numpy")
def _mark(bits: Array, first: np.uint32, last: np.uint32, marks: Array) -> int:
    """Mark what lies in the range; how many lie above it."""
    above = np.int32(0)
    for i in range(bits.size):
        magnitude = bits[i] & _MAGNITUDE
        above = np.int32(above + (magnitude > last))
        marks[i] = np.uint8(np.uint32(magnitude - first) <= np.uint32(last - first))
    return int(above)


@njit(cache=True, nogil=True, error_model="numpy")
def _tally_bits(bits: Array, first: np.uint32, last: np.uint32, counts: Array) -> None:
    """Where a step is one magnitude, few entries are in the range: these alone are looked at."""
    marks = np.zeros(_BLOCK, np.uint8)
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


@njit(cache=True, nogil=True, error_model="numpy")
def _trim(row: Array, threshold: np.float32) -> int:
    kept = 0
    for i in range(row.size):
        value = row[i]
        stays = (abs(value) >= threshold) & (value != 0)
        kept += stays
        row[i] = value if stays else np.float32(0)
    return kept


@njit(cache=True, nogil=True, error_model="numpy")
def _drop(row: Array, key: np.uint64, first: np.uint64, below: np.uint64) -> int:
    kept = 0
    for i in range(row.size):
        hashed = key + (first + np.uint64(i) + _ONE) * _GAMMA
        hashed = (hashed ^ (hashed >> _30)) * _MIX_1
        hashed = (hashed ^ (hashed >> _27)) * _MIX_2
        hashed = hashed ^ (hashed >> _31)
        value = row[i]
        stays = ((hashed >> _11) < below) & (value != 0)
        kept += stays
        row[i] = value if stays else np.float32(0)
    return kept


@njit(cache=True, nogil=True, error_model="numpy")
def _vote(
    row: Array,
    factor: float,
    weight: float,
    up: Array,
    down: Array,
    up_weight: Array,
    down_weight: Array,
) -> None:
    for i in range(row.size):
        x = factor * np.float64(row[i])
        up[i] += x if x > 0 else 0.0
        down[i] += -x if x < 0 else 0.0
        up_weight[i] += weight if x > 0 else 0.0
        down_weight[i] += weight if x < 0 else 0.0


@njit(cache=True, nogil=True, error_model="numpy")
def _count_votes(
    up: Array, down: Array, up_weight: Array, down_weight: Array, normalize: bool, merged: Array
) -> None:
    for i in range(merged.size):
        rises = up[i] > down[i]
        falls = down[i] > up[i]
        total = up[i] if rises else (-down[i] if falls else 0.0)
        divisor = up_weight[i] if rises else (down_weight[i] if falls else 1.0)
        merged[i] = total / divisor if normalize else total


@njit(cache=True, nogil=True, error_model="numpy")
def _elect(deltas: Array, factors: Array, weights: Array, normalize: bool, merged: Array) -> None:
    up, down = np.empty(_BLOCK), np.empty(_BLOCK)
    up_weight, down_weight = np.empty(_BLOCK), np.empty(_BLOCK)
    for start in range(0, merged.size, _BLOCK):
        stop = min(merged.size, start + _BLOCK)
        up[:] = 0
        down[:] = 0
        up_weight[:] = 0
        down_weight[:] = 0
        for k in range(factors.size):
            row = deltas[k, start:stop]
            _vote(row, factors[k], weights[k], up, down, up_weight, down_weight)
        _count_votes(up, down, up_weight, down_weight, normalize, merged[start:stop])


@njit(cache=True, nogil=True, error_model="numpy")
def _add_row(row: Array, factor: float, merged: Array) -> None:
    for i in range(row.size):
        merged[i] += factor * np.float64(row[i])


@njit(cache=True, nogil=True, error_model="numpy")
def _add(deltas: Array, factors: Array, divisor: float, merged: Array) -> None:
    for start in range(0, merged.size, _BLOCK):
        part = merged[start : min(merged.size, start + _BLOCK)]
        part[:] = 0
        for k in range(factors.size):
            _add_row(deltas[k, start : start + part.size], factors[k], part)
        for i in range(part.size):
            part[i] /= divisor


@njit(cache=True, nogil=True, error_model="numpy")
def _move(base: Array, merged: Array, scaling: float, to_odd: bool, infinite_from: float) -> int:
    """To odd: see `raylab.reduce.methods.round_once`."""
    nearest = np.empty(_BLOCK, np.float32)
    bits = nearest.view(np.int32)
    bad = 0
    for start in range(0, base.size, _BLOCK):
        own = base[start : min(base.size, start + _BLOCK)]
        moves = merged[start : start + own.size]
        for i in range(own.size):
            exact = np.float64(own[i]) + moves[i] * scaling
            moves[i] = exact if moves[i] != 0 else np.float64(own[i])
            nearest[i] = np.float32(moves[i])
            bad += not abs(moves[i]) < infinite_from
        if to_odd:
            for i in range(own.size):
                widened = np.float64(nearest[i])
                beyond = np.int32(1) if abs(widened) > abs(moves[i]) else np.int32(0)
                bits[i] = bits[i] if widened == moves[i] else (bits[i] - beyond) | np.int32(1)
        own[:] = nearest[: own.size]
    return bad


def non_finite(delta: torch.Tensor) -> int:
    """How many entries are NaN or infinite."""
    return int(_non_finite(delta.numpy()))


def tally(delta: torch.Tensor, first: int, last: int, shift: int, counts: Array) -> None:
    """Add to `counts` how many magnitudes of `delta`, as bits, lie at each step of 2^shift from
    `first` to `last`, and at its end how many lie above; counts: int64."""
    bits = delta.numpy().view(np.uint32)
    if shift:
        _tally_steps(bits, np.uint32(first), np.uint32(last), np.uint32(shift), counts)
    else:
        _tally_bits(bits, np.uint32(first), np.uint32(last), counts)


def trim(delta: torch.Tensor, threshold: float) -> int:
    """How many entries stay; the others become zero."""
    return int(_trim(delta.numpy(), np.float32(threshold)))


def drop(delta: torch.Tensor, key: int, first: int, below: int) -> int:
    """How many entries stay; the others become zero."""
    words = (np.uint64(number) for number in (key, first, below))
    return int(_drop(delta.numpy(), *words))


def elect(
    deltas: torch.Tensor,
    factors: Sequence[float],
    weights: Sequence[float],
    normalize: bool,
    merged: torch.Tensor,
) -> None:
    """Write the elected mean into `merged`, float64 (size,)."""
    _elect(deltas.numpy(), np.array(factors), np.array(weights), normalize, merged.numpy())


def add(
    deltas: torch.Tensor, factors: Sequence[float], divisor: float, merged: torch.Tensor
) -> None:
    """Write the weighted sum into `merged`, float64 (size,)."""
    _add(deltas.numpy(), np.array(factors), divisor, merged.numpy())


def move(base: torch.Tensor, merged: torch.Tensor, scaling: float, dtype: torch.dtype) -> int:
    """Write base + scaling * merged into `base`; how many entries are not finite in `dtype`.

    A narrower `dtype` is left for the caller to round to: what is written is rounded to odd.
    """
    limit = _INFINITE_FROM[dtype]
    return int(_move(base.numpy(), merged.numpy(), scaling, dtype != torch.float32, limit))
