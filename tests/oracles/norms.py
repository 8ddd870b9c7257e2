"""Norms, thresholds and shares of float32 values, in exact rational arithmetic.

Shares no code with raylab and none of its method: values are sorted and added as fractions.
"""

import itertools
import math
import struct
from decimal import Decimal
from fractions import Fraction

import numpy as np


def magnitudes(values):
    """|value| of every entry as a Fraction, the largest first."""
    flat = np.asarray(values, dtype=np.float32).ravel().tolist()
    return sorted((abs(Fraction(value)) for value in flat), reverse=True)


def bits_of(value):
    """The 31 magnitude bits of one float32."""
    return struct.unpack("<I", struct.pack("<f", value))[0] % 2**31


def root(square):
    """The square root of a Fraction, to 400 bits below the unit, as the nearest float."""
    scaled = square * Fraction(4) ** 400
    return float(Fraction(math.isqrt(scaled.numerator // scaled.denominator), 2**400))


def l1(values):
    """The exact sum of magnitudes."""
    return sum(magnitudes(values), Fraction(0))


def squares(values):
    """The exact sum of squares."""
    return sum((value * value for value in magnitudes(values)), Fraction(0))


def moments(values):
    """{bucket: [count, sum of low, sum of low^2]}, one entry at a time."""
    found = {}
    for value in np.asarray(values, dtype=np.float32).ravel().tolist():
        bucket, low = divmod(bits_of(value), 65536)
        entry = found.setdefault(bucket, [0, 0, 0])
        entry[0] += 1
        entry[1] += low
        entry[2] += low * low
    return found


def num_keep(density, numel):
    """max(1, floor(density * numel)) in decimal arithmetic."""
    return max(1, int(Decimal(str(density)) * numel))


def at_density(values, density):
    """(num_keep, threshold, at_or_above, l1, sum of squares) of the largest entries."""
    ordered = magnitudes(values)
    keep = num_keep(density, len(ordered))
    kept = ordered[:keep]
    above = sum(value >= kept[-1] for value in ordered)
    return keep, kept[-1], above, sum(kept), sum(value * value for value in kept)


def shares(values, density):
    """(L1 share, L2 share) at a density, sums linear between the edges of buckets."""
    flat = np.asarray(values, dtype=np.float32).ravel().tolist()
    ordered = sorted(flat, key=abs, reverse=True)
    edges = [(0, Fraction(0), Fraction(0))]
    first = second = Fraction(0)
    for index, value in enumerate(ordered):
        exact = abs(Fraction(value))
        first, second = first + exact, second + exact * exact
        last = index + 1 == len(ordered)
        if last or bits_of(ordered[index + 1]) >> 16 != bits_of(value) >> 16:
            edges.append((index + 1, first, second))
    count = Fraction(density) * len(ordered)
    for (n0, a0, b0), (n1, a1, b1) in itertools.pairwise(edges):
        if count <= n1:
            part = (count - n0) / (n1 - n0)
            one, two = a0 + part * (a1 - a0), b0 + part * (b1 - b0)
            return float(one / first), root(two / second)
    return 1.0, 1.0
