"""A merge of bfloat16 checkpoints in one loop: from the bytes of files to those of the output.

Model: a block of entries is small enough to stay next to the core, and goes through all steps of
`raylab.merge.steps` there: each model's words become a task vector (or values), entries are
dropped, the models are combined, the base is added, and the sum is rounded. The steps are the
loops of `compiled_rows`, `compiled_steps`, `compiled_draws` and `compiled_tensors`. A block that
no model changes is copied.
Invariant: the same loops run on the same entries in the same order as step by step over a whole
piece, so the bits are the same; how blocks are cut changes none.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from raylab.compiled import njit, types
from raylab.merge.compiled_draws import drop_entries
from raylab.merge.compiled_rows import Words, narrow_bf16, subtract_bf16, widen_bf16
from raylab.merge.compiled_steps import add_block, merge_disjoint, sum_weighted
from raylab.merge.compiled_tensors import clip, mean_of_moved, merge_selected
from raylab.merge.steps import INFINITE_FROM
from raylab.merge.thread_memory import Memory
from raylab.reduce.intrinsics import as_matrix, on_stack, words_at

Array = np.ndarray

_BLOCK = 1024
_OPTIONS: dict[str, Any] = {"error_model": "numpy"}
_WORDS = types.Array(types.uint16, 1, "C", readonly=True)
_I64, _U64, _F64, _BOOL = types.int64, types.uint64, types.float64, types.boolean
_ROW = types.float32[::1]

_ALL, _TRIM, _DROP = range(3)
_SUM, _DISJOINT, _MEAN_OF_MOVED, _CLIP, _SELECTED = range(5)
_KEEPS = {"all": _ALL, "trim": _TRIM, "drop": _DROP}
_COMBINES = {
    "sum": _SUM,
    "disjoint": _DISJOINT,
    "mean_of_moved": _MEAN_OF_MOVED,
    "clip": _CLIP,
    "selected": _SELECTED,
}
NON_FINITE, KEPT, ABOVE, AT, ABOVE_UPPER, AT_UPPER = range(6)
"""Columns of the counts of a model: entries that are not finite; that stay and are not zero; whose
magnitude is above the threshold, or is the threshold; and the same of the upper threshold."""
_INFINITE = INFINITE_FROM["BF16"]


@dataclass(frozen=True)
class Keeping:
    """Which entries of each model stay. how: all, trim or drop. bounds: to trim, each model's
    threshold and upper threshold, exactly float32; streams: to drop, its key and limit; see
    `raylab.merge.steps`."""

    how: str = "all"
    bounds: Sequence[tuple[float, float]] = ()
    streams: Sequence[tuple[int, int]] = ()


@dataclass(frozen=True)
class Combining:
    """How models are combined. how: by the step `weighted_sum` (sum) or `disjoint_merge`
    (disjoint), or by a loop of `compiled_tensors`. factors and weights: one for each model; bound:
    the divisor of a sum, or the loop's own number; normalizes: an election divides by weights."""

    how: str
    factors: Sequence[float] = ()
    weights: Sequence[float] = ()
    bound: float = 1.0
    normalizes: bool = False

    def of_models(self, count: int) -> tuple[Array, Array]:
        """The factors and the weights of so many models, as loops take them."""
        found = [np.array(given or [1.0] * count) for given in (self.factors, self.weights)]
        if self.how != "disjoint":
            return found[0], found[1]
        # An election takes two models at once: an odd one stands beside one that has no vote.
        return np.append(found[0], 0.0), np.append(found[1], 0.0)


@njit(**_OPTIONS)
def is_same(words: Array, base: Array) -> bool:
    """Whether all words are those of the base."""
    differ = np.uint16(0)
    for i in range(base.size):
        differ |= words[i] ^ base[i]
    return differ == 0


@njit(**_OPTIONS)
def copy_words(words: Array, result: Array) -> None:
    """Copy the words of a block."""
    for i in range(words.size):
        result[i] = words[i]


@njit(**_OPTIONS)
def _count_nonzero(row: Array) -> int:
    count = np.int32(0)
    for i in range(row.size):
        count = np.int32(count + (row[i] != 0))
    return int(count)


@njit(**_OPTIONS)
def _trim(row: Array, lower: np.float32, upper: np.float32, counts: Array) -> None:
    """See `raylab.merge.compiled_steps.trim`."""
    kept, above, at = np.int32(0), np.int32(0), np.int32(0)
    for i in range(row.size):
        value = row[i]
        size = abs(value)
        stays = (size >= lower) & (size <= upper) & (value != 0)
        kept = np.int32(kept + stays)
        above = np.int32(above + (size > lower))
        at = np.int32(at + (size == lower))
        row[i] = value if stays else np.float32(0)
    counts[KEPT] += kept
    counts[ABOVE] += above
    counts[AT] += at


@njit(**_OPTIONS)
def _count_upper(row: Array, upper: np.float32, counts: Array) -> None:
    above, at = np.int32(0), np.int32(0)
    for i in range(row.size):
        size = abs(row[i])
        above = np.int32(above + (size > upper))
        at = np.int32(at + (size == upper))
    counts[ABOVE_UPPER] += above
    counts[AT_UPPER] += at


@njit(**_OPTIONS)
def _keep(row: Array, keeps: int, bounds: Array, stream: Array, first: Any, counts: Array) -> None:
    if keeps == _TRIM:
        if bounds[1] < np.inf:
            _count_upper(row, bounds[1], counts)
        _trim(row, bounds[0], bounds[1], counts)
    elif keeps == _DROP:
        counts[KEPT] += drop_entries(row, stream[0], first, stream[1])


@njit(**_OPTIONS)
def _combine(
    rows: Array,
    combines: int,
    factors: Array,
    weights: Array,
    normalizes: bool,
    bound: float,
    moves: Array,
) -> None:
    if combines == _SUM:
        sum_weighted(rows, factors, bound, moves)
    elif combines == _DISJOINT:
        merge_disjoint(rows, factors, weights, normalizes, moves)
    elif combines == _MEAN_OF_MOVED:
        mean_of_moved(rows, np.float32(bound), factors, moves)
    elif combines == _CLIP:
        clip(rows[0], bound, moves)
    else:
        merge_selected(rows, bound, factors, moves)


@njit(
    _I64(
        _I64[::1], _WORDS, _BOOL, _U64, _I64, types.float32[:, ::1], _U64[:, ::1], _I64, _F64[::1],
        _F64[::1], _BOOL, _F64, _F64, _ROW, _I64[:, ::1], types.uint16[::1],
    ),
    **_OPTIONS,
)  # fmt: skip
def _merge(
    addresses: Array,
    base: Array,
    is_of_values: bool,
    first: Any,
    keeps: int,
    bounds: Array,
    streams: Array,
    combines: int,
    factors: Array,
    weights: Array,
    normalizes: bool,
    bound: float,
    scaling: float,
    memory: Array,
    counts: Array,
    result: Array,
) -> int:
    own, moves = on_stack(_BLOCK, np.float32), on_stack(_BLOCK, np.float64)
    overflows = 0
    for start in range(0, base.size, _BLOCK):
        size = min(base.size - start, _BLOCK)
        words, row_of_base, sums = base[start : start + size], own[:size], moves[:size]
        rows = as_matrix(memory, addresses.size, size)
        is_changed = is_of_values
        for k in range(addresses.size):
            theirs = words_at(addresses[k] + 2 * start, size)
            if is_of_values:
                counts[k, NON_FINITE] += widen_bf16(theirs, rows[k])
            else:
                counts[k, NON_FINITE] += subtract_bf16(theirs, words, rows[k])
                is_changed |= not is_same(theirs, words)
            _keep(rows[k], keeps, bounds[k], streams[k], first + np.uint64(start), counts[k])
        if not is_changed:
            copy_words(words, result[start : start + size])
            continue
        _combine(rows, combines, factors, weights, normalizes, bound, sums)
        if keeps == _ALL:
            # A rule has set what it leaves out to zero.
            for k in range(addresses.size):
                counts[k, KEPT] += _count_nonzero(rows[k])
        if is_of_values:
            row_of_base[:] = 0
        else:
            widen_bf16(words, row_of_base)
        overflows += add_block(row_of_base, sums, scaling, True, _INFINITE)
        narrow_bf16(row_of_base, result[start : start + size])
    return overflows


def merge_words(
    words: Words,
    first: int,
    keeping: Keeping,
    combining: Combining,
    scaling: float,
    memory: Memory,
    result: Array,
) -> tuple[int, Array]:
    """Write the merged entries into `result`; return how many overflow bfloat16, and of each model
    the counts NON_FINITE to AT_UPPER, int64 (models, 6).

    words: entries first, first + 1, ... of the tensor; result: uint16 (entries,).
    """
    count = len(words.models)
    rows = memory.buffer("rows of blocks", (count * _BLOCK,), "F32")
    bounds = np.array(keeping.bounds or [(0.0, math.inf)] * count, np.float32)
    streams = np.array(keeping.streams or [(0, 0)] * count, np.uint64)
    factors, weights = combining.of_models(count)
    counts = np.zeros((count, AT_UPPER + 1), np.int64)
    overflows = _merge(
        words.addresses, words.base, words.are_values, first, _KEEPS[keeping.how], bounds,
        streams, _COMBINES[combining.how], factors, weights, combining.normalizes,
        combining.bound, scaling, rows, counts, result,
    )  # fmt: skip
    return int(overflows), counts
