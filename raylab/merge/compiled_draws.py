"""The steps that drop entries by chance, compiled: DARE and DELLA.

Model: `raylab.merge.steps` defines both. DELLA sorts the magnitudes of some rows at a time, writes
each entry's rank beside it, and then draws entry by entry, in their order.
Invariant: what is drawn for an entry depends on its key and its index alone.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from raylab.compiled import njit, types
from raylab.merge.steps import GAMMA, MIX_1, MIX_2

Array = np.ndarray

_TOGETHER = 1 << 16
"""Entries of the rows that are sorted at a time."""
_OPTIONS: dict[str, Any] = {"error_model": "numpy"}
_ROW, _SUMS, _KEYS = types.float32[::1], types.float64[::1], types.uint64[:, ::1]
_INT, _U64 = types.int64, types.uint64
_GAMMA, _MIX_1, _MIX_2 = (np.uint64(number) for number in (GAMMA, MIX_1, MIX_2))
_ONE, _11, _27, _30, _31 = (np.uint64(number) for number in (1, 11, 27, 30, 31))
_LOW, _32 = np.uint64(0xFFFFFFFF), np.uint64(32)
_MAGNITUDE = np.uint32(0x7FFFFFFF)


@njit(inline="always")
def _hash(key: Any, index: Any) -> Any:
    return _mixed(key + (index + _ONE) * _GAMMA)


@njit(inline="always")
def _mixed(state: Any) -> Any:
    """The upper bits of the output of this state of SplitMix64."""
    hashed = (state ^ (state >> _30)) * _MIX_1
    hashed = (hashed ^ (hashed >> _27)) * _MIX_2
    return (hashed ^ (hashed >> _31)) >> _11


@njit(_INT(_ROW, _U64, _U64, _U64), **_OPTIONS)
def drop_entries(row: Array, key: np.uint64, first: np.uint64, below: np.uint64) -> int:
    """`drop` of one key."""
    kept = 0
    state = key + (first + _ONE) * _GAMMA
    for i in range(row.size):
        value = row[i]
        stays = (_mixed(state) < below) & (value != 0)
        state += _GAMMA
        kept += stays
        row[i] = value if stays else np.float32(0)
    return kept


@njit(types.void(_ROW, _KEYS), **_OPTIONS)
def _fill_keys(row: Array, keys: Array) -> None:
    """The bits of each magnitude, then its place in its row, which makes keys unique: any way of
    sorting gives one order."""
    bits, (rows, columns) = row.view(np.uint32), keys.shape
    for r in range(rows):
        own, found = bits[r * columns : (r + 1) * columns], keys[r]
        for i in range(columns):
            found[i] = (np.uint64(own[i] & _MAGNITUDE) << _32) | np.uint64(i)


@njit(**_OPTIONS)
def _keep_ranks(
    row: Array, ranks: Array, key: Any, first: Any, limits: Array, divisors: Array, scaled: Array
) -> int:
    kept = 0
    for i in range(row.size):
        value, rank = row[i], ranks[i]
        below = np.uint64(limits[rank])
        stays = (_hash(key, first + np.uint64(i)) < below) & (value != 0)
        kept += stays
        left = value if stays else np.float32(0)
        row[i] = left
        scaled[i] = np.float64(left) / divisors[rank]
    return kept


@njit(_INT(_ROW, _KEYS, types.int32[::1], _U64, _U64, types.int64[::1], _SUMS, _SUMS), **_OPTIONS)
def _drop_by_rank(
    row: Array,
    sorted_keys: Array,
    ranks: Array,
    key: np.uint64,
    first: np.uint64,
    limits: Array,
    divisors: Array,
    scaled: Array,
) -> int:
    rows, columns = sorted_keys.shape
    kept = 0
    for r in range(rows):
        start, order = r * columns, sorted_keys[r]
        for rank in range(columns):
            ranks[np.int64(order[rank] & _LOW)] = rank
        own, into = row[start : start + columns], scaled[start : start + columns]
        kept += _keep_ranks(own, ranks, key, first + np.uint64(start), limits, divisors, into)
    return kept


def drop(delta: Array, key: int, first: int, limit: int) -> int:
    """Set entries whose hash is not below `limit` to zero; return how many are not zero."""
    words = (np.uint64(number) for number in (key, first, limit))
    return int(drop_entries(delta, *words))


def drop_by_rank(
    delta: Array, key: int, first: int, limits: Array, divisors: Array, scaled: Array
) -> int:
    """Drop entries by the limits of their ranks, and write what is left, scaled, into `scaled`."""
    if not delta.any():
        delta[:] = 0
        scaled[:] = 0
        return 0
    columns, kept = limits.size, 0
    step = max(1, _TOGETHER // columns)
    rows, ranks = delta.size // columns, np.empty(columns, np.int32)
    keys = np.empty((min(step, rows), columns), np.uint64)
    for start in range(0, rows, step):
        part = slice(start * columns, min(start + step, rows) * columns)
        own = keys[: min(step, rows - start)]
        _fill_keys(delta[part], own)
        own.sort(axis=1)
        words = np.uint64(key), np.uint64(first + part.start)
        kept += int(_drop_by_rank(delta[part], own, ranks, *words, limits, divisors, scaled[part]))
    return kept
