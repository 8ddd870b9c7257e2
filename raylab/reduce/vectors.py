"""The compiled loops of a scan: norms and interval sums in vector registers.

Model: a block of rows is decoded, subtracted and summed in one loop that the compiler turns into
vector instructions; further loops over the same block, which is in the first-level cache by
then, sum what lies above each run of buckets and count what lies in it.
Why numba: it compiles for the CPU that it runs on, releases Python's lock, and keeps what it
compiled on disk; torch would write every intermediate to memory. Sums may be reassociated,
which vectors need: their order is decided by the CPU's vectors and the length of the piece.
Invariant: counts are exact; the same piece gives the same bits on one kind of CPU.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic

from raylab.reduce.kernels import NONE

_BLOCK = 2048
_CHUNK = 128
_REASSOCIATED = {"reassoc", "contract", "nsz"}
_OPTIONS: dict[str, Any] = {"cache": True, "nogil": True, "boundscheck": False}

Array = np.ndarray
# Compiled (or loaded) at import, for one layout: a mapped file cannot be written to.
_U16 = types.Array(types.uint16, 1, "C", readonly=True)
_F32_READ = types.Array(types.float32, 1, "C", readonly=True)
_I32, _I64, _F32, _F64 = types.int32, types.int64, types.float32, types.float64


@intrinsic
def _as_float(context: Any, bits: Any) -> Any:
    """The float32 with these uint32 bits."""

    def generate(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        return builder.bitcast(arguments[0], ir.FloatType())

    return types.float32(types.uint32), generate


@intrinsic
def _as_bits(context: Any, value: Any) -> Any:
    """The int32 bits of this float32."""

    def generate(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        return builder.bitcast(arguments[0], ir.IntType(32))

    return types.int32(types.float32), generate


@njit(**_OPTIONS, fastmath=_REASSOCIATED)
def _head_bf16(a: Array, b: Array, bits: Array, ends: Array, sums: Array) -> None:
    """Magnitudes of one block into `bits`; its ends, and sums[0] = (squares of b, l1, l2)."""
    values = bits.view(np.float32)
    largest, smallest, nonzero = np.int32(0), np.int32(NONE), np.int32(0)
    first = second = weights = 0.0
    for i in range(a.size):
        x: Any = _as_float(np.uint32(a[i]) << np.uint32(16))
        y = _as_float(np.uint32(b[i]) << np.uint32(16))
        magnitude = abs(x - y)
        values[i] = magnitude
        word: Any = _as_bits(magnitude)
        largest, smallest = max(largest, word), min(smallest, word)
        nonzero += np.int32(word != 0)
        wide, weight = np.float64(magnitude), np.float64(y)
        first += wide
        second += wide * wide
        weights += weight * weight
    ends[0], ends[1] = max(ends[0], largest), min(ends[1], smallest)
    ends[2] += nonzero
    sums[0, 0] += weights
    sums[0, 1] += first
    sums[0, 2] += second


@njit(**_OPTIONS, fastmath=_REASSOCIATED)
def _head_float(a: Array, bits: Array, ends: Array, sums: Array) -> None:
    """The same of one block of float32 differences; sums[0, 0] stays."""
    values = bits.view(np.float32)
    largest, smallest, nonzero = np.int32(0), np.int32(NONE), np.int32(0)
    first = second = 0.0
    for i in range(a.size):
        magnitude = abs(a[i])
        values[i] = magnitude
        word: Any = _as_bits(magnitude)
        largest, smallest = max(largest, word), min(smallest, word)
        nonzero += np.int32(word != 0)
        wide = np.float64(magnitude)
        first += wide
        second += wide * wide
    ends[0], ends[1] = max(ends[0], largest), min(ends[1], smallest)
    ends[2] += nonzero
    sums[0, 1] += first
    sums[0, 2] += second


@njit(**_OPTIONS, fastmath=_REASSOCIATED)
def _against(bits: Array, limit: float, low: int, span: int, usual: int, sums: Array) -> Any:
    """One block against one run: sums += (how many are above `limit`, their sum, the sum of
    their squares); gives (how many are `usual`, how many others lie in [low, low + span])."""
    values = bits.view(np.float32)
    count, first, second = np.int32(0), 0.0, 0.0
    same, others = np.int32(0), np.int32(0)
    for i in range(bits.size):
        is_above, is_usual = values[i] > limit, bits[i] == usual
        wide = np.float64(values[i]) if is_above else 0.0
        count += np.int32(is_above)
        first += wide
        second += wide * wide
        same += np.int32(is_usual)
        others += np.int32((np.uint32(bits[i] - low) <= span) & (not is_usual))
    sums[0] += count
    sums[1] += first
    sums[2] += second
    return same, others


@njit(**_OPTIONS)
def _others(bits: Array, low: int, span: int, usual: int) -> Any:
    """How many lie in [low, low + span] and are not `usual`."""
    others = np.int32(0)
    for i in range(bits.size):
        others += np.int32((np.uint32(bits[i] - low) <= span) & (bits[i] != usual))
    return others


@njit(**_OPTIONS)
def _count_run(bits: Array, low: int, span: int, usual: int, row: int, counts: Array) -> None:
    """Count what lies in a run and is not usual into `counts`, from `row` on."""
    for start in range(0, bits.size, _CHUNK):
        chunk = bits[start : start + _CHUNK]
        if _others(chunk, low, span, usual) == 0:
            continue
        for i in range(chunk.size):
            offset = np.uint32(chunk[i] - low)
            if (offset <= span) & (chunk[i] != usual):
                place = np.uint64(offset)
                counts[np.uint64(row) + (place >> np.uint64(16)), place & np.uint64(65535)] += 1


@njit(**_OPTIONS)
def _runs(bits: Array, runs: Array, limits: Array, counts: Array, sums: Array) -> None:
    """One block against every run; runs: int32 (K, 5) of low, span, usual, row, equal ones."""
    for k in range(runs.shape[0]):
        low, span, usual = runs[k, 0], np.uint32(runs[k, 1]), runs[k, 2]
        same, others = _against(bits, limits[k], low, span, usual, sums[k + 1])
        runs[k, 4] += same
        if others > 0:
            _count_run(bits, low, span, usual, runs[k, 3], counts)


@njit(
    types.void(_U16, _U16, _I32[:, ::1], _F32[::1], _I32[:, ::1], _I64[::1], _F64[:, ::1]),
    **_OPTIONS,
)
def scan_bf16(
    a: Array, b: Array, runs: Array, limits: Array, counts: Array, ends: Array, sums: Array
) -> None:
    """Scan |a - b| of bf16 given as uint16.

    runs: int32 (K, 5) of low bits, span, usual bits or -1, row in counts, and how many were
    usual. limits: float32 (K,), the top of each run. counts: int32 (rows, 65536). ends: int64
    (largest, smallest bits, non-zero entries). sums: float64 (K + 1, 3), the first row
    (squares of b, l1, l2 squared) of all, the others (entries, l1, l2 squared) above a run.
    """
    bits = np.empty(_BLOCK, np.int32)
    for start in range(0, a.size, _BLOCK):
        stop = min(start + _BLOCK, a.size)
        block = bits[: stop - start]
        _head_bf16(a[start:stop], b[start:stop], block, ends, sums)
        _runs(block, runs, limits, counts, sums)


@njit(
    types.void(_F32_READ, _I32[:, ::1], _F32[::1], _I32[:, ::1], _I64[::1], _F64[:, ::1]),
    **_OPTIONS,
)
def scan_float(
    a: Array, runs: Array, limits: Array, counts: Array, ends: Array, sums: Array
) -> None:
    """The same of |a| of float32; sums[0, 0] stays."""
    bits = np.empty(_BLOCK, np.int32)
    for start in range(0, a.size, _BLOCK):
        stop = min(start + _BLOCK, a.size)
        block = bits[: stop - start]
        _head_float(a[start:stop], block, ends, sums)
        _runs(block, runs, limits, counts, sums)
