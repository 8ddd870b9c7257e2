"""Signs and masks of task vectors as bits, 64 entries a word, and the counts of pairs and groups.

Model: of one tile, each model has planes of bits, one bit for each entry:

    plane 0      the entry is neither zero nor infinite nor NaN
    plane 1      of these, it is negative
    plane 2 + k  of these, its magnitude reaches the model's threshold at density k

Two models share popcount(a & b) entries of a mask, and agree in popcount(nonzero & ~(sign_a ^
sign_b)) signs. How many models of a group keep an entry is a binary number whose digits are planes
as well: adding a model is a carry through the digits. Entries come block by block, as
`raylab.reduce.lora_product` forms them, so that a low-rank delta is never held whole.
Invariant: counts are exact, the same for any tiles, threads, shards and devices.

Why numba: a product of matrices of 0 and 1 takes 64 times as many operations, and torch would write
every comparison to memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from raylab.compiled import njit, types
from raylab.reduce.histogram import INFINITY
from raylab.reduce.intrinsics import bits_set, on_stack, within
from raylab.reduce.lora_product import COLUMNS, OPERANDS, ProductRows, fill_block, operands

_BLOCK = 2048
_DEEP = _BLOCK // COLUMNS
_WORD = 64
_TOGETHER = 128
"""Words of a plane that are compared at once: those of 24 models at five densities are 172 KB."""
_MOST_DIGITS = 32
"""Binary digits of a count of models."""
_ALL = np.uint64(0xFFFFFFFFFFFFFFFF)
_MAGNITUDE, _WHOLE, _SIGN = np.uint32(0x7FFFFFFF), np.uint32(0xFFFFFFFF), np.uint32(1 << 31)
_ONE, _LARGEST = np.uint32(1), np.uint32(INFINITY - 1)
Array = np.ndarray


def planes_of(
    rows: Sequence[torch.Tensor | ProductRows | None], limits: Sequence[Sequence[int]]
) -> Array:
    """uint64 (N, 2 + K, words): the planes of N models over one tile; zeros where one has no rows.

    rows: float32, of one shape, 2-D or flat. limits: by model, the magnitude bits of its threshold
    at each density.
    """
    height, width = next(_shape(own) for own in rows if own is not None)
    lows = np.maximum(np.array(limits, dtype=np.uint32).reshape(len(rows), -1), 1)
    planes = np.zeros((len(rows), 2 + lows.shape[1], _words(height, width)), dtype=np.uint64)
    for own, low, place in zip(rows, lows, planes, strict=True):
        if isinstance(own, ProductRows):
            _pack_products(*operands(own.terms, own.start, own.stop, width), low, place)
        elif own is not None:
            _pack_values(own.reshape(height, width).contiguous().numpy(), low, place)
    return planes


def _shape(rows: torch.Tensor | ProductRows) -> tuple[int, int]:
    if isinstance(rows, ProductRows):
        return rows.stop - rows.start, rows.columns
    return (1, rows.numel()) if rows.dim() == 1 else (rows.shape[0], rows[0].numel())


def _words(height: int, width: int) -> int:
    """How many words a plane of a tile has: every block begins a word of its own."""
    across = [COLUMNS] * (width // COLUMNS) + [width % COLUMNS]
    heights = {_DEEP: height // _DEEP, height % _DEEP: 1}
    return sum(n * -(-deep * wide // _WORD) for wide in across for deep, n in heights.items())


@njit()
def _pack(words: Array, size: int, lows: Array, planes: Array, place: int) -> None:
    """The first `size` entries of a block, given as int32, as words of `planes` from `place` on."""
    for start in range(0, size, _WORD):
        first, at = np.uint64(start), place + start // _WORD
        inside = _ALL >> np.uint64(max(0, _WORD - (size - start)))
        finite = inside & within(words, first, _MAGNITUDE, _ONE, _LARGEST - _ONE)
        planes[0, at] = finite
        planes[1, at] = finite & within(words, first, _WHOLE, _SIGN, _MAGNITUDE)
        for k in range(lows.size):
            low = lows[k]
            reached = within(words, first, _MAGNITUDE, low, np.uint32(_LARGEST - low))
            planes[2 + k, at] = inside & reached


_LOWS, _PLANES = types.Array(types.uint32, 1, "C"), types.Array(types.uint64, 2, "C")
_VALUES = types.Array(types.float32, 2, "C", readonly=True)


@njit()
def _copy(row: Array, into: Array) -> None:
    # An assignment to a slice would keep words for an error of two sizes, which need numba.
    for j in range(row.size):
        into[j] = row[j]


@njit(types.void(_VALUES, _LOWS, _PLANES))
def _pack_values(values: Array, lows: Array, planes: Array) -> None:
    block = on_stack(_BLOCK, np.float32)
    block[:] = 0
    words, place = block.view(np.int32), 0
    height, width = values.shape
    for first in range(0, width, COLUMNS):
        across = min(width, first + COLUMNS) - first
        for top in range(0, height, _DEEP):
            deep = min(height, top + _DEEP) - top
            for i in range(deep):
                _copy(values[top + i, first : first + across], block[i * across :])
            _pack(words, deep * across, lows, planes, place)
            place += (deep * across + _WORD - 1) // _WORD


@njit(types.void(*OPERANDS, _LOWS, _PLANES))
def _pack_products(
    up: Array, down: Array, ends: Array, scales: Array, lows: Array, planes: Array
) -> None:
    block, more = on_stack(_BLOCK, np.float32), on_stack(_BLOCK, np.float32)
    block[:] = 0
    words, place = block.view(np.int32), 0
    height, width = up.shape[0], down.shape[1]
    for first in range(0, width, COLUMNS):
        across = min(width, first + COLUMNS) - first
        for top in range(0, height, _DEEP):
            low = min(height, top + _DEEP)
            size = (low - top) * across
            fill_block(block[:size], more[:size], up[top:low], down, ends, scales, first)
            _pack(words, size, lows, planes, place)
            place += (size + _WORD - 1) // _WORD


@njit()
def _shared(a: Array, b: Array) -> Any:
    found = np.uint64(0)
    for w in range(a.size):
        found += bits_set(a[w] & b[w])
    return np.int64(found)


@njit()
def _equal_signs(a: Array, b: Array) -> Any:
    """How many entries are not zero in both models and have one sign; a, b: (planes, words)."""
    found = np.uint64(0)
    for w in range(a.shape[1]):
        found += bits_set(a[0, w] & b[0, w] & ~(a[1, w] ^ b[1, w]))
    return np.int64(found)


@njit()
def _add_pair(planes: Array, i: int, j: int, counts: Array) -> None:
    """Add what two models share in some words, planes (N, 2 + K, words)."""
    a, b = planes[i], planes[j]
    counts[0, i, j] += _shared(a[0], b[0])
    counts[1, i, j] += _equal_signs(a, b)
    for k in range(2, planes.shape[1]):
        counts[k, i, j] += _shared(a[k], b[k])


@njit()
def _add_block(planes: Array, chosen: Array, counts: Array) -> None:
    """Add what all pairs share in some words."""
    for i in range(planes.shape[0]):
        for j in range(i, planes.shape[0]):
            if i == j or chosen[i] or chosen[j]:
                _add_pair(planes, i, j, counts)


@njit(
    types.void(
        types.Array(types.uint64, 3, "C"), types.boolean[::1], types.Array(types.int64, 3, "C")
    ),
)
def add_pairs(planes: Array, chosen: Array, counts: Array) -> None:
    """Add what models share to `counts`, int64 (2 + K, N, N): entries that are not zero in both,
    those of one sign among them, and those that both masks keep at each density.

    chosen: bool (N,); two different models that are both not chosen are left out.
    """
    count, _, words = planes.shape
    for start in range(0, words, _TOGETHER):
        _add_block(planes[:, :, start : min(words, start + _TOGETHER)], chosen, counts)
    for i in range(count):
        for j in range(i):
            for k in range(counts.shape[0]):
                counts[k, i, j] = counts[k, j, i]


@njit()
def _add_models(planes: Array, k: int, members: Array, digits: Array, ends: Array) -> None:
    """Count how many of `members` keep each entry at density k, in binary digits (D, words).

    ends: (2, words), whether a model keeps an entry that is positive, or negative. planes: (N, 2 +
    K, words).
    """
    digits[:] = 0
    ends[:] = 0
    carry = on_stack(_TOGETHER, np.uint64)
    for model in members:
        mask, sign = planes[model, 2 + k], planes[model, 1]
        for w in range(mask.size):
            carry[w] = mask[w]
            ends[0, w] |= mask[w] & ~sign[w]
            ends[1, w] |= mask[w] & sign[w]
        for d in range(digits.shape[0]):
            for w in range(mask.size):
                both = digits[d, w] & carry[w]
                digits[d, w] ^= carry[w]
                carry[w] = both


@njit()
def _count_equal(digits: Array, number: int, word: Array) -> Any:
    """How many entries have the count `number`."""
    word[:] = _ALL
    for d in range(digits.shape[0]):
        flip = np.uint64(0) if (number >> d) & 1 else _ALL
        for w in range(word.size):
            word[w] &= digits[d, w] ^ flip
    return _shared(word, word)


@njit()
def _add_group(
    planes: Array, k: int, numel: int, members: Array, memory: Array, kept: Array
) -> None:
    """Add a tile of `numel` entries to the counts of one group at density k."""
    word = on_stack(_TOGETHER, np.uint64)
    words, depth = planes.shape[2], 0
    while members.size >> depth:
        depth += 1
    kept[0] += numel
    for start in range(0, words, _TOGETHER):
        wide = min(words, start + _TOGETHER) - start
        digits, ends = memory[2 : 2 + depth, :wide], memory[:2, :wide]
        _add_models(planes[:, :, start : start + wide], k, members, digits, ends)
        for number in range(1, members.size + 1):
            same = _count_equal(digits, number, word[:wide])
            kept[number] += same
            kept[0] -= same
        kept[members.size + 1] += _shared(ends[0], ends[1])


@njit(
    types.void(
        types.Array(types.uint64, 3, "C"),
        types.int64,
        types.int64[::1],
        types.int64[::1],
        types.uint64[:, ::1],
        types.int64[:, ::1],
    ),
)
def _add_groups(
    planes: Array, numel: int, members: Array, sizes: Array, memory: Array, found: Array
) -> None:
    for k in range(found.shape[0]):
        first, column = 0, 0
        for n in sizes:
            kept = found[k, column : column + n + 2]
            _add_group(planes, k, numel, members[first : first + n], memory, kept)
            first += n
            column += n + 2


def add_groups(planes: Array, numel: int, members: Array, sizes: Array, found: Array) -> None:
    """Add a tile of `numel` entries to the counts of groups (see `group_counts`), int64 (K, W).

    members: the models of all groups, one group after another.
    """
    memory = np.empty((2 + _MOST_DIGITS, _TOGETHER), np.uint64)
    _add_groups(planes, numel, members, sizes, memory, found)


@njit(
    types.void(
        types.Array(types.uint64, 3, "C"), types.int64[:, ::1], types.Array(types.int64, 3, "C")
    ),
)
def add_signs(planes: Array, kin: Array, counts: Array) -> None:
    """Add a tile to the counts of kin (see `kept_signs`), int64 (K, P, 2); kin: int64 (P, 2)."""
    for place in range(kin.shape[0]):
        merge, parent = planes[kin[place, 0]], planes[kin[place, 1]]
        for k in range(counts.shape[0]):
            survived, zero = np.uint64(0), np.uint64(0)
            for w in range(planes.shape[2]):
                mask, there = parent[2 + k, w], merge[0, w]
                survived += bits_set(mask & there & ~(parent[1, w] ^ merge[1, w]))
                zero += bits_set(mask & ~there)
            counts[k, place, 0] += np.int64(survived)
            counts[k, place, 1] += np.int64(zero)
