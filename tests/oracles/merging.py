"""Merging as its papers define it, one entry at a time, in Python's own float64.

TIES-Merging: Yadav et al. 2023 (arXiv:2306.01708), algorithm 1. DARE: Yu et al. 2023
(arXiv:2311.03099), section 3. DELLA: Deep et al. 2024 (arXiv:2406.11617). Task arithmetic: Ilharco
et al. 2022 (arXiv:2212.04089). Model soups: Wortsman et al. 2022 (arXiv:2203.05482). SplitMix64:
Steele, Lea and Flood 2014, figure 16.
Shares no code with raylab.
"""

import hashlib
import math
from decimal import Decimal
from fractions import Fraction

import numpy as np

DIGITS = {"bfloat16": (8, -126, 127), "float16": (11, -14, 15), "float32": (24, -126, 127)}
"""Significant bits, smallest and largest exponent of normal numbers."""


def task_vector(model, base):
    """float32(model) - float32(base), rounded to float32."""
    return np.asarray(model, np.float32) - np.asarray(base, np.float32)


def threshold(arrays, density):
    """(num_keep, the num_keep-th largest magnitude) over all `arrays`."""
    flat = sorted((abs(float(v)) for a in arrays for v in np.ravel(a)), reverse=True)
    keep = max(1, int(Decimal(str(density)) * len(flat)))
    return keep, flat[keep - 1]


def trimmed(values, limit):
    """The entries of at least `limit`, the others zero."""
    return [v if abs(v) >= limit else 0.0 for v in map(float, np.ravel(values))]


def breadcrumbs(arrays, density, gamma):
    """(smallest, largest) magnitude that stays over all `arrays`: outliers are dropped first, and
    fewer of them where too few would be left (Davari and Belilovsky 2023, arXiv:2312.06795)."""
    flat = sorted((abs(float(v)) for a in arrays for v in np.ravel(a)), reverse=True)
    keep = max(1, int(Decimal(str(density)) * len(flat)))
    outliers = min(int(Decimal(str(gamma)) * len(flat)), len(flat) - keep)
    return flat[outliers + keep - 1], flat[outliers]


def between(values, smallest, largest):
    """The entries of magnitude `smallest` to `largest`, the others zero."""
    return [v if smallest <= abs(v) <= largest else 0.0 for v in map(float, np.ravel(values))]


def dropped(values, density, seed, model, tensor, first=0):
    """DARE: each entry kept with probability `density`, and not yet scaled up."""
    start = hashlib.sha256(f"{seed}\0{model}\0{tensor}".encode()).digest()[:8]
    key = int.from_bytes(start, "little")
    below = int(Decimal(str(density)) * 2**53)
    flat = map(float, np.ravel(values))
    return [v if splitmix(key, first + i) >> 11 < below else 0.0 for i, v in enumerate(flat)]


def probabilities(row, density, epsilon):
    """DELLA: the probability that each entry of a row stays, by its magnitude's rank."""
    if density == 1 or len(row) == 1:
        return [density] * len(row)
    ranks = {i: r for r, i in enumerate(sorted(range(len(row)), key=lambda i: abs(row[i])))}
    step = 2 * epsilon / (len(row) - 1)
    return [density - epsilon + step * ranks[i] for i in range(len(row))]


def dropped_by_rank(values, density, epsilon, seed, model, tensor):
    """DELLA: each entry kept with its probability, and then over it."""
    start = hashlib.sha256(f"{seed}\0{model}\0{tensor}".encode()).digest()[:8]
    key, found = int.from_bytes(start, "little"), []
    values = np.asarray(values, np.float64)
    for row in values.reshape(len(values) if values.ndim > 1 else 1, -1):
        for v, p in zip(map(float, row), probabilities(row, density, epsilon), strict=True):
            draw = splitmix(key, len(found)) / 2**64
            found.append(v / p if draw < p else 0.0)
    return found


def splitmix(seed, index):
    """The output number `index`, from 0, of SplitMix64 seeded with `seed`."""
    z = (seed + (index + 1) * 0x9E3779B97F4A7C15) % 2**64
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) % 2**64
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) % 2**64
    return z ^ (z >> 31)


def elected(columns, factors, weights, normalize=True):
    """The merged task vector of TIES: elect a sign for every entry, mean of those that have it."""
    merged = []
    for values in zip(*columns, strict=True):
        moves = [float(c) * float(v) for c, v in zip(factors, values, strict=True)]
        up, down = sum(x for x in moves if x > 0), sum(-x for x in moves if x < 0)
        sign = (up > down) - (up < down)
        agreeing = [w for x, w in zip(moves, weights, strict=True) if x * sign > 0]
        total = up if sign > 0 else -down if sign < 0 else 0.0
        divisor = sum(map(float, agreeing)) if normalize and agreeing else 1.0
        cancels = abs(divisor) <= 2.0**-46 * max(map(abs, weights))
        merged.append(total / (1.0 if cancels else divisor))
    return merged


def summed(columns, factors, divisor=1.0):
    """The weighted sum of task vectors (or values), over `divisor`."""
    merged = []
    for values in zip(*columns, strict=True):
        total = 0.0
        for c, v in zip(factors, values, strict=True):
            total += float(c) * float(v)
        merged.append(total / divisor)
    return merged


def moved(base, merged, scaling, dtype):
    """base + scaling * merged, each rounded once to `dtype`; float64 values."""
    starts = map(float, np.ravel(base))
    return [rounded(b + m * scaling, dtype) for b, m in zip(starts, merged, strict=True)]


def rounded(value, dtype):
    """The nearest number of `dtype`, ties to even, in exact arithmetic; beyond it, infinity."""
    digits, lowest, highest = DIGITS[dtype]
    exact = Fraction(value)
    if exact == 0:
        return 0.0
    exponent = max(math.frexp(value)[1] - 1, lowest)
    unit = Fraction(2) ** (exponent - digits + 1)
    nearest = round(exact / unit) * unit
    largest = (2 - Fraction(2) ** (1 - digits)) * Fraction(2) ** highest
    return float(nearest) if abs(nearest) <= largest else math.copysign(math.inf, value)
