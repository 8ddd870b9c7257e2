"""A sample of rows foresees which buckets hold the thresholds.

Model: the first rows of some tiles, 1/128 of all entries, are counted before everything else.
Their buckets show, within a margin, where the num_keep-th largest entry of all will fall; the
magnitudes of these buckets are counted along in the pass, so that no second read is needed.
Differences of bf16 models tie: a few short magnitudes (of at most eight significant bits, so
that their lower 16 bits are zero, and a bucket has one) are most of all entries. Where the margin
lies inside one of them, the sample guesses the threshold itself.
Invariant: the sample saves a read and decides nothing. Where it was wrong, the tensors are read
again, and the outcome is the same.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from raylab.compiled import njit, types
from raylab.reduce.histogram import BUCKETS
from raylab.reduce.lora_product import OPERANDS, Terms, fill_block, operands_of_two
from raylab.weights.row_tiles import tiles
from raylab.weights.safetensors_reader import Shape

_OF_ALL = 128
"""One of so many entries is in the sample."""
_LEAST_EVERY, _MOST_EVERY = 4, 32
"""One of so many tiles has rows in the sample. A disk reads megabytes around each place."""
# The rows of a tile are alike, so a sample of rows errs more than one of single entries.
_DEVIATIONS = 12
_WIDEST = 18
_BITS = types.Array(types.int32, 1, "C", readonly=True)
_SAMPLE = types.int64[:, ::1]
_FLOATS = types.float32[::1]
_SIXTEEN, _LOW = np.uint64(16), np.uint64((1 << 16) - 1)


def sample_rows(shape: Shape) -> Iterator[tuple[int, int]]:
    """(start, stop) of the rows of a tensor that belong to the sample."""
    bounds = list(tiles(shape))
    every = min(max(len(bounds), _LEAST_EVERY), _MOST_EVERY)
    for start, stop in bounds[::every]:
        rows = math.ceil((stop - start) * every / _OF_ALL)
        yield start, start + rows if len(shape) > 1 else stop


def bucket_range(sample: np.ndarray, density: float) -> tuple[int, int]:
    """The lowest and the highest bucket that the threshold may lie in, given how many of a sample,
    which is not empty, each bucket holds."""
    from_top = np.cumsum(sample[::-1])
    high, low = (_bucket(from_top, rank) for rank in margin(density, int(from_top[-1])))
    return low, high


def foresee(sample: np.ndarray, density: float) -> tuple[int, ...]:
    """The buckets that may hold the threshold at a density, given how many of the sample each
    bucket holds; none where they are too many to count in.

    Bucket 0 (zeros, and magnitudes below 2^-133) and the smallest entry need no candidates:
    `raylab.reduce.threshold` finds these without counts.
    """
    if density >= 1 or not sample.any():
        return ()
    low, high = bucket_range(sample, density)
    # Rows of a low-rank delta are alike, so the sample may miss by a bucket more.
    low, high = max(low - 1, 0), min(high + 1, BUCKETS - 1)
    # In bf16 few buckets are used; the others of a range hold nothing.
    used = low + np.flatnonzero(sample[low : high + 1])
    return tuple(used[used > 0].tolist()) if len(used) <= _WIDEST else ()


def guess(sample: np.ndarray, density: float) -> int | None:
    """The magnitude bits of the threshold, or 0 where all that is not zero is kept; None where
    the sample, as `count_buckets` gives it, leaves more than one magnitude."""
    counts, short = sample
    size = int(counts.sum())
    if density >= 1 or size == 0:
        return 0
    from_top = np.cumsum(counts[::-1])
    first, last = margin(density, size)
    bucket = _bucket(from_top, first)
    end = int(from_top[BUCKETS - 1 - bucket])
    # The short magnitude is the smallest of its bucket.
    is_tied = end - int(short[bucket]) < first and last <= end
    return bucket << 16 if is_tied else None


def margin(density: float, size: int) -> tuple[float, float]:
    """(first, last) of the ranks in a sample of so many entries, the largest entry's being 1, that
    the threshold may have."""
    apart = _DEVIATIONS * math.sqrt(density * (1 - density) * size) + 1
    return max(density * size - apart, 1), min(density * size + apart, size)


def _bucket(from_top: np.ndarray, rank: float) -> int:
    """The bucket of the entry at a rank, given how many each bucket and those above it hold."""
    return BUCKETS - 1 - int(np.searchsorted(from_top, rank))


@njit(types.void(_BITS, _SAMPLE))
def _add_bits(bits: np.ndarray, counts: np.ndarray) -> None:
    for i in range(bits.size):
        magnitude = np.uint64(bits[i] & 0x7FFFFFFF)
        bucket = magnitude >> _SIXTEEN
        counts[np.uint64(0), bucket] += 1
        counts[np.uint64(1), bucket] += (magnitude & _LOW) == np.uint64(0)


@njit(types.void(_FLOATS, _FLOATS, _FLOATS, *OPERANDS, *OPERANDS, _SAMPLE))
def _add_products(
    a: np.ndarray,
    b: np.ndarray,
    more: np.ndarray,
    up_a: np.ndarray,
    down_a: np.ndarray,
    ends_a: np.ndarray,
    scales_a: np.ndarray,
    up_b: np.ndarray,
    down_b: np.ndarray,
    ends_b: np.ndarray,
    scales_b: np.ndarray,
    counts: np.ndarray,
) -> None:
    fill_block(a, more, up_a, down_a, ends_a, scales_a, 0)
    fill_block(b, more, up_b, down_b, ends_b, scales_b, 0)
    for i in range(a.size):
        a[i] -= b[i]
    _add_bits(a.view(np.int32), counts)


def add_values(values: np.ndarray, counts: np.ndarray) -> None:
    """Add how many entries of float32 `values` each bucket holds, and how many of these are short
    (their lower 16 bits are zero), to `counts`, int64 (2, BUCKETS)."""
    _add_bits(values.reshape(-1).view(np.int32), counts)


def add_products(a: Terms, b: Terms, start: int, stop: int, counts: np.ndarray) -> None:
    """The same of rows [start, stop) of the difference of two low-rank deltas."""
    size, given = operands_of_two(a, b, start, stop)
    _add_products(*np.empty((3, size), np.float32), *given, counts)
