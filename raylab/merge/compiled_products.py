"""Inner products of every two models' rows, compiled: no float64 copy of them.

Model: rows are float32, or are made of the words of bfloat16 files, a part at a time that stays
near the core.
Invariant: a product adds in the order of numpy's pairwise sum of a contiguous array (blocks of at
most 128, halved at multiples of 8, eight sums in a block), so both have the same bits. No product
is fused with a sum.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from raylab.compiled import from_numba, njit, types
from raylab.merge.compiled_rows import Words, subtract_bf16, widen_bf16
from raylab.merge.thread_memory import Memory
from raylab.reduce.intrinsics import as_matrix, words_at

Array = np.ndarray

eight_sums = from_numba("raylab.merge.eight_sums", "eight_sums")
_CACHED = 1 << 14
"""Entries of all models that stay near the core from one pair to the next."""
_OPTIONS: dict[str, Any] = {"error_model": "numpy"}
_WORDS = types.Array(types.uint16, 1, "C", readonly=True)
_ROW, _ROWS = types.float32[::1], types.float32[:, ::1]
_I64, _F64, _BOOL = types.int64, types.float64, types.boolean


@njit(_F64(_ROW, _ROW), **_OPTIONS)
def _product(a: Array, b: Array) -> float:
    if a.size > 128:
        half = a.size // 2
        half -= half % 8
        return float(_product(a[:half], b[:half]) + _product(a[half:], b[half:]))
    whole = a.size - a.size % 8
    total: Any = eight_sums(a, b, whole // 8)
    for i in range(whole, a.size):
        total += np.float64(a[i]) * np.float64(b[i])
    return float(total)


@njit(**_OPTIONS)
def _add_products(some: Array, found: Array) -> None:
    for i in range(found.shape[0]):
        for j in range(found.shape[1]):
            found[i, j] += some[i, j]


@njit(types.void(_ROWS, _I64, _I64, _F64[:, :, ::1], _F64[:, ::1]), **_OPTIONS)
def _products(models: Array, start: int, stop: int, memory: Array, found: Array) -> None:
    if stop - start > _CACHED:
        half = (stop - start) // 2
        half -= half % 8
        rest = memory[0]
        _products(models, start, start + half, memory[1:], found)
        _products(models, start + half, stop, memory[1:], rest)
        _add_products(rest, found)
        return
    for i in range(models.shape[0]):
        for j in range(i, models.shape[0]):
            of_pair = _product(models[i, start:stop], models[j, start:stop])
            found[i, j] = found[j, i] = of_pair


def products(models: Array, found: Array) -> None:
    """The inner products of every two models. found: float64 (models, models)."""
    _products(models, 0, models.shape[1], _levels_of(models.shape[1], len(models)), found)


def _levels_of(entries: int, models: int) -> Array:
    """Memory for the products of each half, float64 (levels, models, models)."""
    # Halves that are not quite halves: one level more than a logarithm says.
    return np.empty(((entries // _CACHED).bit_length() + 1, models, models))


@njit(**_OPTIONS)
def _fill_rows(
    addresses: Array, base: Array, is_of_values: bool, start: int, rows: Array, counts: Array
) -> None:
    """Rows of each model from entry `start` on; `counts`: what is not finite."""
    stop = start + rows.shape[1]
    for k in range(addresses.size):
        theirs = words_at(addresses[k] + 2 * start, rows.shape[1])
        if is_of_values:
            counts[k] += widen_bf16(theirs, rows[k])
        else:
            counts[k] += subtract_bf16(theirs, base[start:stop], rows[k])


@njit(
    types.void(
        _I64[::1], _WORDS, _BOOL, _I64, _I64, _ROW, _F64[:, :, ::1], _I64[::1], _F64[:, ::1]
    ),
    **_OPTIONS,
)  # fmt: skip
def _products_of_words(
    addresses: Array,
    base: Array,
    is_of_values: bool,
    start: int,
    stop: int,
    memory: Array,
    levels: Array,
    counts: Array,
    found: Array,
) -> None:
    if stop - start > _CACHED:
        half = (stop - start) // 2
        half -= half % 8
        middle, rest, below = start + half, levels[0], levels[1:]
        _products_of_words(
            addresses, base, is_of_values, start, middle, memory, below, counts, found
        )
        _products_of_words(addresses, base, is_of_values, middle, stop, memory, below, counts, rest)
        _add_products(rest, found)
        return
    rows = as_matrix(memory, addresses.size, stop - start)
    _fill_rows(addresses, base, is_of_values, start, rows, counts)
    for i in range(addresses.size):
        for j in range(i, addresses.size):
            of_pair = _product(rows[i], rows[j])
            found[i, j] = found[j, i] = of_pair


def products_of_words(words: Words, memory: Memory, counts: Array) -> Array:
    """The inner products of every two models, float64 (models, models). counts: int64 (models,), to
    which entries are added that are not finite."""
    models, entries = len(words.models), words.base.size
    rows = memory.buffer("rows of blocks", (models * _CACHED,), "F32")
    levels, found = _levels_of(entries, models), np.empty((models, models))
    own = words.addresses, words.base, words.are_values
    _products_of_words(*own, 0, entries, rows, levels, counts, found)
    return found
