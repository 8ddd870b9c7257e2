"""DELLA's draws by rank, compiled: ranks of a row's magnitudes are counted, not sorted.

Model: differences of bfloat16 have few significant bits, so that the magnitudes of a row take few
values. A loop counts how often each value occurs, and notes of every entry how many before it in
the row have the same one; these and the entries of smaller values are its rank. A row whose
magnitudes spread over too many values is sorted, 11 bits at a time. Entries whose hash is beyond
the largest limit are out whatever their rank.
Invariant: ranks, draws and quotients are those that `raylab.merge.steps` defines.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from raylab.compiled import njit, types
from raylab.merge.compiled_draws import mixed
from raylab.merge.steps import GAMMA
from raylab.reduce.intrinsics import lowest_bit, on_stack

Array = np.ndarray

MOST_VALUES = 1 << 18
"""Values that the magnitudes of a row may spread over; few of them occur."""
_DIGIT, _DIGITS, _OF_THREE = 11, 2048, 6144
"""Bits of a magnitude that are sorted by at a time, their values, and those of three times."""
_OPTIONS: dict[str, Any] = {"error_model": "numpy"}
_I64, _U64, _I32 = types.int64, types.uint64, types.int32
_ROW, _SUMS = types.float32[::1], types.float64[::1]
_GAMMA, _ONE = np.uint64(GAMMA), np.uint64(1)
_MAGNITUDE = np.uint32(0x7FFFFFFF)


@njit(**_OPTIONS)
def _span(bits: Array) -> tuple[np.uint32, np.uint32, np.uint32]:
    """The smallest magnitude that is not zero, the largest, and the bits that any of them has."""
    least, most, every = _MAGNITUDE, np.uint32(0), np.uint32(0)
    for i in range(bits.size):
        size = bits[i] & _MAGNITUDE
        least = min(least, size if size != 0 else _MAGNITUDE)
        most = max(most, size)
        every |= size
    return least, most, every


@njit(**_OPTIONS)
def _number(bits: Array, before: np.uint32, shift: np.uint32, values: Array) -> None:
    """The number of each magnitude among those that occur, 0 for zero."""
    for i in range(bits.size):
        size = bits[i] & _MAGNITUDE
        values[i] = np.int32((size >> shift) - before) if size != 0 else np.int32(0)


@njit(**_OPTIONS)
def _count(values: Array, counts: Array, seen: Array, ranks: Array) -> None:
    """Of each entry, how many before it have its value. seen: a bit for each value that occurs."""
    for i in range(values.size):
        value = values[i]
        before = counts[value]
        if before == 0:
            seen[value >> 6] |= _ONE << np.uint64(value & 63)
        ranks[i] = before
        counts[value] = np.int32(before + 1)


@njit(**_OPTIONS)
def _add_up(counts: Array, seen: Array) -> None:
    """Of each value that occurs, how many entries are smaller."""
    total = np.int32(0)
    for w in range(seen.size):
        word = seen[w]
        while word != 0:
            value = np.uint64(w * 64) + lowest_bit(word)
            word &= word - _ONE
            own = counts[value]
            counts[value] = total
            total = np.int32(total + own)


@njit(**_OPTIONS)
def _forget(counts: Array, seen: Array) -> None:
    for w in range(seen.size):
        word = seen[w]
        seen[w] = np.uint64(0)
        while word != 0:
            counts[np.uint64(w * 64) + lowest_bit(word)] = 0
            word &= word - _ONE


@njit(**_OPTIONS)
def _sort(bits: Array, orders: Array, ranks: Array) -> None:
    """The ranks by 33 bits in three passes, each of which keeps the order of equal digits. orders:
    int32 (2, columns)."""
    counts = on_stack(_OF_THREE, np.int32)
    counts[:] = 0
    for i in range(bits.size):
        size = np.int64(bits[i] & _MAGNITUDE)
        counts[size & (_DIGITS - 1)] += 1
        counts[_DIGITS + ((size >> _DIGIT) & (_DIGITS - 1))] += 1
        counts[2 * _DIGITS + (size >> (2 * _DIGIT))] += 1
    for start in range(0, _OF_THREE, _DIGITS):
        total = np.int32(0)
        for value in range(start, start + _DIGITS):
            own = counts[value]
            counts[value] = total
            total = np.int32(total + own)
    for i in range(bits.size):
        digit: Any = np.int64(bits[i] & _MAGNITUDE) & (_DIGITS - 1)
        orders[0, counts[digit]] = i
        counts[digit] += 1
    for j in range(bits.size):
        place = orders[0, j]
        digit = _DIGITS + ((np.int64(bits[place] & _MAGNITUDE) >> _DIGIT) & (_DIGITS - 1))
        orders[1, counts[digit]] = place
        counts[digit] += 1
    for j in range(bits.size):
        place = orders[1, j]
        digit = 2 * _DIGITS + (np.int64(bits[place] & _MAGNITUDE) >> (2 * _DIGIT))
        ranks[place] = counts[digit]
        counts[digit] += 1


@njit(**_OPTIONS)
def _draw(state: Any, hashes: Array) -> None:
    for i in range(hashes.size):
        hashes[i] = np.int64(mixed(state))
        state += _GAMMA


@njit(**_OPTIONS)
def _candidates(row: Array, hashes: Array, most: int, places: Array) -> int:
    count = 0
    for i in range(row.size):
        places[count] = i
        count += (hashes[i] < most) & (row[i] != 0)
    return count


@njit(**_OPTIONS)
def drop_row(
    row: Array,
    key: Any,
    first: Any,
    limits: Array,
    divisors: Array,
    counts: Array,
    seen: Array,
    numbers: Array,
    hashes: Array,
    scaled: Array,
) -> int:
    """`drop_by_rank` of one row, which stays as it is: what is kept is in `scaled` alone; returns
    how many entries are kept.

    counts: int32 (values,) and seen: uint64 (values / 64,), zeros before and after; numbers: int32
    (3, columns) and hashes: int64 (columns,), with any content.
    """
    bits = row.view(np.uint32)
    least, most, every = _span(bits)
    scaled[:] = 0
    if every == 0:
        return 0
    shift = np.uint32(lowest_bit(np.uint64(every)))
    before = np.uint32((least >> shift) - np.uint32(1))
    spread = np.int64((most >> shift) - before) + 1
    values, ranks, places = numbers[0], numbers[1], numbers[2]
    known = seen[: (spread + 63) // 64]
    if spread <= counts.size:
        _number(bits, before, shift, values)
        _count(values, counts, known, ranks)
        _add_up(counts, known)
    else:
        _sort(bits, numbers[::2], ranks)
        # All entries have one value, and no entry is smaller.
        values[:] = 0
        known = seen[:0]
    _draw(key + (first + _ONE) * _GAMMA, hashes)
    kept = 0
    for c in range(_candidates(row, hashes, limits[row.size - 1], places)):
        place = places[c]
        rank = counts[values[place]] + ranks[place]
        stays = hashes[place] < limits[rank]
        kept += stays
        scaled[place] = np.float64(row[place]) / divisors[rank] if stays else 0.0
    _forget(counts, known)
    return kept


@njit(
    _I64(
        _ROW, _U64, _U64, _I64[::1], _SUMS, _I32[::1], _U64[::1], _I32[:, ::1], _I64[::1], _SUMS
    ),
    **_OPTIONS,
)  # fmt: skip
def _drop_rows(
    delta: Array,
    key: np.uint64,
    first: np.uint64,
    limits: Array,
    divisors: Array,
    counts: Array,
    seen: Array,
    numbers: Array,
    hashes: Array,
    scaled: Array,
) -> int:
    kept, columns = 0, limits.size
    for start in range(0, delta.size, columns):
        row, into = delta[start : start + columns], scaled[start : start + columns]
        own = first + np.uint64(start)
        memory = counts, seen, numbers, hashes
        kept += drop_row(row, key, own, limits, divisors, *memory, into)
        for i in range(columns):
            row[i] = row[i] if into[i] != 0 else np.float32(0)
    return kept


def drop_by_rank(
    delta: Array, key: int, first: int, limits: Array, divisors: Array, scaled: Array
) -> int:
    """Drop entries by the limits of their ranks, and write what is left, scaled, into `scaled`."""
    memory, words = ranking_memory(limits.size), (np.uint64(key), np.uint64(first))
    return int(_drop_rows(delta, *words, limits, divisors, *memory, scaled))


def ranking_memory(columns: int) -> tuple[Array, Array, Array, Array]:
    """The counts, seen, numbers and hashes that `drop_row` takes for rows of so many columns."""
    counts, seen = np.zeros(MOST_VALUES, np.int32), np.zeros(MOST_VALUES // 64, np.uint64)
    return counts, seen, np.empty((3, columns), np.int32), np.empty(columns, np.int64)
