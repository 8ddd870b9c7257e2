"""Compiled exact sums of one block of magnitudes, in vector registers.

Model: the largest magnitude of a block decides the block's unit, a power of two, in which all of
its magnitudes are integers:

    fast     below 2^26: each magnitude is one int32, each square one int64. Nearly all blocks of
             differences of bf16 weights.
    wide     below 2^52: a magnitude is an int64 of two halves of 26 bits, whose three products
             are summed apart. Differences of float32 weights and low-rank deltas.
    scalar   a range of magnitudes that is wider still: each one in the unit of its exponent.

Whichever way a block takes, its sums are integers, which `_store` adds to a table by unit: the
same total for any blocks, tiles, threads and order.
Invariant: nothing is rounded. A sum of 2048 squares below 2^52 stays below 2^63.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from raylab.compiled import njit
from raylab.reduce.histogram import INFINITY
from raylab.reduce.intrinsics import as_bits, as_float

BLOCK = 2048
"""The most entries of a block."""
UNITS = 320
"""Rows of a table of sums, one for each unit."""
_HALF = 26

Array = np.ndarray


@njit()
def _store(sums: Array, unit: int, first: int, second: int) -> None:
    """sums[unit] += (first, second >> 32, second % 2^32): first in units of 2^(unit - 149), second
    in units of 2^(2 * (unit - 149))."""
    sums[unit, 0] += first
    sums[unit, 1] += second >> 32
    sums[unit, 2] += second & 0xFFFFFFFF


@njit()
def _scale(bits: Array, scale: float, scaled: Array) -> Any:
    """scaled[i] = magnitude * scale; (whether all are integers, their sum, that of squares)."""
    values = bits.view(np.float32)
    inexact, first, second = np.int32(0), np.int64(0), np.int64(0)
    for i in range(bits.size):
        value = values[i] * scale
        whole = np.int32(value)
        scaled[i] = whole
        inexact = np.int32(inexact | as_bits(np.float32(whole) - value))
        wide = np.int64(whole)
        first += wide
        second += wide * wide
    return inexact == 0, first, second


@njit()
def _whole(limit: float, scale: float) -> Any:
    """The largest integer that is not above a limit in the unit of a block."""
    return np.int32(min(np.float64(limit) * scale, 2147483647.0))


@njit()
def _add_above_4(scaled: Array, limits: Array, scale: float, unit: int, sums: Array) -> None:
    """Add the entries above limits[k] to sums[k], for four limits."""
    limit_0, limit_1 = _whole(limits[0], scale), _whole(limits[1], scale)
    limit_2, limit_3 = _whole(limits[2], scale), _whole(limits[3], scale)
    l1_0 = l1_1 = l1_2 = l1_3 = np.int64(0)
    l2_0 = l2_1 = l2_2 = l2_3 = np.int64(0)
    for i in range(scaled.size):
        whole = scaled[i]
        wide = np.int64(whole)
        square = wide * wide
        # In this order: side by side, two of one condition become a branch, which has no vectors.
        l1_0 += wide if whole > limit_0 else 0
        l1_1 += wide if whole > limit_1 else 0
        l1_2 += wide if whole > limit_2 else 0
        l1_3 += wide if whole > limit_3 else 0
        l2_0 += square if whole > limit_0 else 0
        l2_1 += square if whole > limit_1 else 0
        l2_2 += square if whole > limit_2 else 0
        l2_3 += square if whole > limit_3 else 0
    _store(sums[0], unit, l1_0, l2_0)
    _store(sums[1], unit, l1_1, l2_1)
    _store(sums[2], unit, l1_2, l2_2)
    _store(sums[3], unit, l1_3, l2_3)


@njit()
def _add_above_1(scaled: Array, limit: int, unit: int, sums: Array) -> None:
    """The same of one limit."""
    first, second = np.int64(0), np.int64(0)
    for i in range(scaled.size):
        whole = scaled[i]
        wide = np.int64(whole)
        first += wide if whole > limit else 0
        second += wide * wide if whole > limit else 0
    _store(sums, unit, first, second)


@njit()
def _add_fast(bits: Array, exponent: int, limits: Array, scaled: Array, sums: Array) -> bool:
    """Add a block in integers below 2^26; False, and nothing added, where it has finer ones."""
    # The scale is a float32 and at least 1, so that no small magnitude is lost by scaling.
    if exponent < 25 or exponent > 152:
        return False
    scale: Any = as_float(np.uint32(279 - exponent) << np.uint32(23))
    unit = exponent - 3
    exact, first, second = _scale(bits, scale, scaled)
    if not exact:
        return False
    _store(sums[0], unit, first, second)
    count = limits.size
    for k in range(0, count - 3, 4):
        _add_above_4(scaled, limits[k : k + 4], scale, unit, sums[k + 1 : k + 5])
    for k in range(count // 4 * 4, count):
        _add_above_1(scaled, _whole(limits[k], scale), unit, sums[k + 1])
    return True


@njit()
def _widen(bits: Array, lowest: int, wide: Array) -> bool:
    """wide[i] = magnitude in the unit of the exponent `lowest`; whether all are integers."""
    lost = np.int64(0)
    for i in range(bits.size):
        field: Any = np.int64(bits[i] >> 23)
        significand = np.int64(bits[i] & 0x7FFFFF) + ((field > 0) << 23)
        up: Any = max(field, 1) - lowest
        down = min(max(-up, 0), 63)
        up = max(up, 0)
        kept = significand >> down
        lost |= significand - (kept << down)
        wide[i] = kept << up
    return lost == 0


@njit()
def _add_wide_above(bits: Array, wide: Array, limit: int, unit: int, sums: Array) -> None:
    """Add the entries whose bits are above `limit` to a table of sums."""
    first = second = high = middle = low = np.int64(0)
    for i in range(bits.size):
        value = wide[i] if bits[i] > limit else 0
        upper, lower = value >> _HALF, value & ((1 << _HALF) - 1)
        first += lower
        second += upper
        high += upper * upper
        middle += upper * lower
        low += lower * lower
    # A magnitude is upper * 2^26 + lower, its square high * 2^52 + middle * 2^27 + low.
    _store(sums, unit, first, low)
    _store(sums, unit + _HALF // 2, 0, middle)
    _store(sums, unit + _HALF // 2, 0, middle)
    _store(sums, unit + _HALF, second, high)


@njit()
def _add_wide(bits: Array, exponent: int, limits: Array, wide: Array, sums: Array) -> bool:
    """Add a block in integers below 2^52; False, and nothing added, where it has finer ones."""
    lowest = max(1, exponent - 28)
    if not _widen(bits, lowest, wide):
        return False
    _add_wide_above(bits, wide, np.int32(-1), lowest - 1, sums[0])
    words = limits.view(np.int32)
    for k in range(words.size):
        _add_wide_above(bits, wide, words[k], lowest - 1, sums[k + 1])
    return True


@njit()
def _add_scalar(bits: Array, limits: Array, sums: Array) -> None:
    """Add a block, each magnitude in the unit of its exponent."""
    words = limits.view(np.int32)
    for i in range(bits.size):
        field: Any = np.int64(bits[i] >> 23)
        significand = np.int64(bits[i] & 0x7FFFFF) + ((field > 0) << 23)
        unit: Any = max(field, 1) - 1
        _store(sums[0], unit, significand, significand * significand)
        for k in range(words.size):
            if bits[i] > words[k]:
                _store(sums[k + 1], unit, significand, significand * significand)


@njit()
def add_sums(
    bits: Array, largest: int, limits: Array, memory: tuple[Array, Array], sums: Array
) -> None:
    """Add the sums of a block of magnitude bits, whose `largest` is known.

    limits: float32 (K,). memory: int32 and int64 arrays of BLOCK entries to work in. sums: int64
    (1 + K, UNITS, 3) as `_store` adds them, first those of all entries, then those of the entries
    above each limit.
    """
    # Zeros add nothing; the caller raises an error where an entry is not finite.
    if largest == 0 or largest >= INFINITY:
        return
    exponent = max(1, largest >> 23)
    scaled, wide = memory
    if _add_fast(bits, exponent, limits, scaled[: bits.size], sums):
        return
    if not _add_wide(bits, exponent, limits, wide[: bits.size], sums):
        _add_scalar(bits, limits, sums)
