"""A merge of bfloat16 checkpoints by DELLA in one loop, a row of the tensor at a time.

Model: as `raylab.merge.compiled_blocks`, but a block is a row, whose magnitudes are ranked
(`raylab.merge.compiled_ranks`).
Invariant: the same loops run on the same entries in the same order as step by step over a whole
piece, so the bits are the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from raylab.compiled import njit, types
from raylab.merge.compiled_blocks import KEPT, NON_FINITE, Combining, copy_words, is_same
from raylab.merge.compiled_ranks import drop_row, ranking_memory
from raylab.merge.compiled_rows import Words, narrow_bf16, subtract_bf16, widen_bf16
from raylab.merge.compiled_steps import add_block, merge_disjoint, sum_weighted
from raylab.merge.steps import INFINITE_FROM
from raylab.merge.thread_memory import Memory
from raylab.reduce.intrinsics import words_at

Array = np.ndarray

MOST_COLUMNS = 1 << 16
"""Entries of a row: for each of them a thread holds about 50 bytes and 12 for each model."""
_OPTIONS: dict[str, Any] = {"error_model": "numpy"}
_WORDS = types.Array(types.uint16, 1, "C", readonly=True)
_I64, _U64, _F64, _BOOL = types.int64, types.uint64, types.float64, types.boolean
_ROW, _ROWS, _SUMS, _WIDE = types.float32[::1], types.float32[:, ::1], _F64[::1], _F64[:, ::1]
_INFINITE = INFINITE_FROM["BF16"]


@dataclass(frozen=True)
class Draws:
    """Of each model: the key of its draws; by rank, the limits of a hash and the divisors of what
    stays, int64 and float64 (columns,); see `raylab.merge.steps.keep_probabilities`."""

    keys: Sequence[int]
    limits: Sequence[Array]
    divisors: Sequence[Array]


@njit(
    _I64(
        _I64[::1], _WORDS, _U64[::1], _U64, _I64[:, ::1], _WIDE, types.int32[::1], _U64[::1],
        types.int32[:, ::1], _I64[::1], _ROWS, _WIDE, _BOOL, _SUMS, _SUMS, _BOOL, _F64, _F64,
        _I64[:, ::1], types.uint16[::1],
    ),
    **_OPTIONS,
)  # fmt: skip
def _merge(
    addresses: Array,
    base: Array,
    keys: Array,
    first: Any,
    limits: Array,
    divisors: Array,
    occurrences: Array,
    seen: Array,
    numbers: Array,
    hashes: Array,
    rows: Array,
    scaled: Array,
    elects: bool,
    factors: Array,
    weights: Array,
    normalizes: bool,
    divisor: float,
    scaling: float,
    counts: Array,
    result: Array,
) -> int:
    """The last row of `rows` is the base's, and that of `scaled` is for the sum."""
    columns, models = hashes.size, addresses.size
    own, moves = rows[models], scaled[models]
    overflows = 0
    for start in range(0, base.size, columns):
        words = base[start : start + columns]
        is_changed = False
        for k in range(models):
            theirs = words_at(addresses[k] + 2 * start, columns)
            counts[k, NON_FINITE] += subtract_bf16(theirs, words, rows[k])
            is_changed |= not is_same(theirs, words)
            place = first + np.uint64(start)
            memory = occurrences, seen, numbers, hashes
            counts[k, KEPT] += drop_row(
                rows[k], keys[k], place, limits[k], divisors[k], *memory, scaled[k]
            )
        if not is_changed:
            copy_words(words, result[start : start + columns])
            continue
        if elects:
            merge_disjoint(scaled[:models], factors, weights, normalizes, moves)
        else:
            sum_weighted(scaled[:models], factors, divisor, moves)
        widen_bf16(words, own)
        overflows += add_block(own, moves, scaling, True, _INFINITE)
        narrow_bf16(own, result[start : start + columns])
    return overflows


def merge_ranked(
    words: Words,
    first: int,
    draws: Draws,
    combining: Combining,
    scaling: float,
    memory: Memory,
    result: Array,
) -> tuple[int, Array]:
    """`raylab.merge.compiled_blocks.merge_words` of task vectors by rank, of whole rows of at most
    MOST_COLUMNS entries."""
    models, columns = len(words.models), len(draws.limits[0])
    factors, weights = combining.of_models(models)
    counts = np.zeros((models, NON_FINITE + 2), np.int64)
    overflows = _merge(
        words.addresses, words.base, np.array(draws.keys, np.uint64), first,
        np.stack(draws.limits), np.stack(draws.divisors), *ranking_memory(columns),
        memory.buffer("rows of blocks", (models + 1, columns), "F32"),
        memory.buffer("scaled rows", (models + 1, columns), "F64"),
        combining.how == "disjoint", factors, weights, combining.normalizes,
        combining.bound, scaling, counts, result,
    )  # fmt: skip
    return int(overflows), counts
