"""The steps of merging: what each one computes, whoever computes it.

Model: d_i is the task vector of model i (for `linear`, its values), float32. All arithmetic on it
is float64, with the models in the order of the request, and the result is rounded once.

    trim            d_i stays where |d_i| >= threshold_i and d_i != 0
                    (TIES-Merging: Yadav et al. 2023, arXiv:2306.01708, algorithm 1, step 1)
    drop            d_i stays with probability density_i, and counts 1 / density_i times
                    (DARE: Yu et al. 2023, arXiv:2311.03099, section 3.2)
    drop_by_rank    d_i stays with a probability that rises with the rank r of |d_i| among the n
                    magnitudes of its row, p_r = density_i - epsilon + 2 epsilon r / (n - 1), and
                    counts 1 / p_r times (DELLA: Deep et al. 2024, arXiv:2406.11617)
    weigh           x_i = c_i * d_i, with c_i = weight_i, for DARE weight_i / density_i, or weight_i
                    times the factor of `raylab.merge.rescale`
    disjoint_merge  the sign whose x_i sum to the larger magnitude is elected; the mean of the x_i
                    of this sign is their sum over the sum of their weights (TIES, steps 2 and 3)
    weighted_sum    sum of x_i, over `divisor` (task arithmetic: Ilharco et al. 2022,
                    arXiv:2212.04089; model soups: Wortsman et al. 2022, arXiv:2203.05482)
    add_to_base     round(base + lambda * merged); an entry with merged = 0 keeps its bits

Weights come before the election, because a weight says how much a model counts: a negative one
turns its model's vote round. Where the weights of the elected sign cancel, their sum divides
nothing, as in mergekit 0.1.5. Zeros do not vote and do not count in the mean. Where both signs sum
to the same magnitude no sign is elected, and the entry stays as in the base: so merging the
negated task vectors gives the negated result.
Of equal magnitudes the first entry of a row has the smaller rank; a row of one entry has
p = density, and a density of 1 keeps everything. What DARE or DELLA draws for an entry depends on
(seed, model, tensor, index of the entry) alone: the index selects an output of SplitMix64 (Steele,
Lea and Flood 2014, "Fast splittable pseudorandom number generators", figure 16), which starts at
the key that `stream_key` makes of the others.
To round float64 once to a 16-bit dtype, `add_to_base` rounds to odd in float32 (an inexact value
takes the neighbour whose last bit is 1), and rounds that to the dtype (Boldo and
Melquiond 2008, "Emulation of a FMA and correctly rounded sums: proved algorithms using rounding
to odd", theorem 3).
Invariant: every step treats entries one by one, or rows one by one, so tiles, threads and devices
do not change a bit.
No product is fused with a sum. Two modules are `Steps`: `compiled_steps` for the CPU and
`torch_steps` for any device of torch, and both give the same bits.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Protocol

import numpy as np

from raylab.reduce.threshold import num_keep

Entries = Any
"""Entries on the device of a merge: an array of numpy on the CPU, where uint16 is bfloat16, or a
tensor of torch."""
Count = Any
"""A number of entries: an int, or int64 () that stays on its device until somebody needs it."""

GAMMA, MIX_1, MIX_2 = 0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB
"""The constants of SplitMix64: its step, and the factors of its mixing."""
HASH_BITS = 53
"""The upper bits of a hash that decide whether an entry stays."""
INFINITE_FROM = {
    "BF16": (2 - 2.0**-8) * 2.0**127,
    "F16": (2 - 2.0**-11) * 2.0**15,
    "F32": (2 - 2.0**-24) * 2.0**127,
}
"""The smallest magnitude that rounds to infinity."""
CANCELLED = 2.0**-46
"""Weights whose sum is at most this share of the largest weight cancel: nothing divides by it."""


class Steps(Protocol):
    """Every step, on entries that all lie on one device and are contiguous."""

    def count_non_finite(self, delta: Entries) -> Count:
        """How many entries are NaN or infinite. delta: float32 (size,)."""

    def count_nonzero(self, delta: Entries) -> Count:
        """How many entries are not zero. delta: float32 (size,)."""

    def widen(self, values: Entries, row: Entries) -> Count:
        """Write float32(values) into `row`; return how many entries are NaN or infinite."""

    def narrow(self, row: Entries, values: Entries) -> Count:
        """Write `row`, float32, into `values`, rounded to their dtype; return how many entries are
        NaN or infinite there."""

    def add(self, row: Entries, values: Entries) -> Count:
        """Add float32(values) to `row`, float32; return how many entries are NaN or infinite."""

    def subtract(self, values: Entries, base: Entries, row: Entries) -> Count:
        """Write float32(values) - float32(base) into `row`; return how many entries are NaN or
        infinite. All (size,), row float32."""

    def trim(self, delta: Entries, threshold: float, upper: float | None = None) -> Count:
        """Set entries whose magnitude is below `threshold`, or above `upper`, to zero; return how
        many are not zero.

        delta: float32 (size,); threshold, upper: exactly a float32.
        """

    def drop(self, delta: Entries, key: int, first: int, limit: int) -> Count:
        """Set entries whose hash is not below `limit` to zero; return how many are not zero.

        delta: float32 (size,), its entries being first, first + 1, ... of the tensor.
        """

    def drop_by_rank(
        self,
        delta: Entries,
        key: int,
        first: int,
        limits: Entries,
        divisors: Entries,
        scaled: Entries,
    ) -> Count:
        """Set entries whose hash is not below the limit of their rank to zero, write what is left
        over the divisor of its rank into `scaled`, and return how many entries are not zero.

        delta: float32 (size,), whole rows; limits: int64 (columns,) and divisors: float64
        (columns,), by rank within a row, the smallest magnitude first; scaled: float64 (size,).
        """

    def disjoint_merge(
        self,
        deltas: Entries,
        factors: Sequence[float],
        weights: Sequence[float],
        normalize: bool,
        merged: Entries,
    ) -> None:
        """Write the sum of the x_i of the elected sign into `merged`, over the sum of their weights
        where `normalize`.

        deltas: float32 or float64 (models, size); factors: the c_i; merged: float64 (size,).
        """

    def weighted_sum(
        self, deltas: Entries, factors: Sequence[float], divisor: float, merged: Entries
    ) -> None:
        """Write the sum of the x_i over `divisor` into `merged`; see `disjoint_merge`."""

    def add_to_base(self, base: Entries, merged: Entries, scaling: float, result: Entries) -> Count:
        """Write base + scaling * merged into `result`, rounded once to its dtype; return how many
        entries overflow it.

        base: float32 (size,), its values being exact in the dtype of `result`; merged: float64
        (size,). Both are overwritten.
        """


def stream_key(seed: int, model: int, tensor: str) -> int:
    """Where the random stream starts for one tensor of model number `model` of the request."""
    text = f"{seed}\0{model}\0{tensor}".encode()
    return int.from_bytes(hashlib.sha256(text).digest()[:8], "little")


def hash_limit(density: float) -> int:
    """An entry stays if the upper 53 bits of its hash are below this limit, out of 2^53."""
    return num_keep(density, 1 << HASH_BITS)


@lru_cache(maxsize=64)
def keep_probabilities(
    density: float, epsilon: float, columns: int
) -> tuple[np.ndarray, np.ndarray]:
    """By rank within a row of so many entries: the limits of their hashes, int64 (columns,), and
    the probabilities that they stay, float64 (columns,). Not to be written to."""
    if density >= 1:
        shares = np.ones(columns)
    elif columns == 1:
        shares = np.array([density])
    else:
        shares = (density - epsilon) + (2 * epsilon) * (np.arange(columns) / (columns - 1))
    limits = (shares * (1 << HASH_BITS)).astype(np.int64)
    return limits, shares
