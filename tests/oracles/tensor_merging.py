"""Merging methods that look at whole tensors, from their formulas, in numpy's float64.

SLERP: Shoemake 1985. Karcher mean: Karcher 1977, here found by its gradient in the vectors' own
space. Model Stock: Jang et al. 2024 (arXiv:2403.19522). Multi-SLERP: Goddard's description, with
its tangent space. NearSwap: alchemonaut's share min(1, t / |d|). Shares no code with raylab, which
works on inner products.
"""

import math

import numpy as np
import scipy.special


def _f8(values):
    return np.asarray(values, np.float64)


def slerp(first, second, t):
    """Along the great arc; linear where there is none."""
    first, second = _f8(first), _f8(second)
    one, two = np.linalg.norm(first), np.linalg.norm(second)
    straight = (1 - t) * first + t * second
    if one == 0 or two == 0:
        return straight
    # Kahan's angle, which is accurate everywhere.
    u, v = first / one, second / two
    angle = 2 * np.arctan2(np.linalg.norm(u - v), np.linalg.norm(u + v))
    if np.sin(angle) < 1e-6:
        return straight
    return (np.sin((1 - t) * angle) * first + np.sin(t * angle) * second) / np.sin(angle)


def slerp_of(first, second, t, axis):
    """Every vector along `axis` of two matrices by itself."""
    first, second = np.moveaxis(_f8(first), axis, -1), np.moveaxis(_f8(second), axis, -1)
    rows = [slerp(a, b, t) for a, b in zip(first, second, strict=True)]
    return np.moveaxis(np.array(rows), -1, axis)


def multislerp(vectors, weights, normalize=True):
    """By the tangent space at the weighted mean of the directions, and back by its exponential."""
    vectors, weights = [_f8(v) for v in vectors], _f8(weights)
    weights = weights / weights.sum() if normalize else weights
    norms = [np.linalg.norm(v) for v in vectors]
    units = [v / n if n else v for v, n in zip(vectors, norms, strict=True)]
    mean = sum(w * u for w, u in zip(weights, units, strict=True))
    if len(vectors) == 1 or np.linalg.norm(mean) < 1e-8:
        return sum(w * v for w, v in zip(weights, vectors, strict=True))
    mean = mean / np.linalg.norm(mean)
    tangent = sum(w * (u - (u * mean).sum() * mean) for w, u in zip(weights, units, strict=True))
    length = np.linalg.norm(tangent)
    point = np.cos(length) * mean + np.sinc(length / np.pi) * tangent
    return point * sum(w * n for w, n in zip(weights, norms, strict=True))


def karcher(vectors, weights, steps=10):
    """By `steps` steps of the gradient on the sphere, from the mean of the directions."""
    vectors, weights = [_f8(v) for v in vectors], _f8(weights) / np.sum(weights)
    scale = sum(w * np.linalg.norm(v) for w, v in zip(weights, vectors, strict=True))
    straight = sum(w * v for w, v in zip(weights, vectors, strict=True))
    used = [(w, v / np.linalg.norm(v)) for w, v in zip(weights, vectors, strict=True) if v.any()]
    mean = sum((w * u for w, u in used), np.zeros_like(vectors[0]))
    if np.linalg.norm(mean) < 1e-8:
        return straight
    total = sum(w for w, _ in used)
    mean = mean / np.linalg.norm(mean)
    for _ in range(steps):
        step = np.zeros_like(mean)
        for weight, unit in used:
            across = unit - (unit * mean).sum() * mean
            size = np.linalg.norm(across)
            if size > 0:
                step += weight / total * np.arctan2(size, (unit * mean).sum()) * across / size
        length = np.linalg.norm(step)
        mean = np.cos(length) * mean + np.sinc(length / np.pi) * step
    return scale * mean / np.linalg.norm(mean)


def model_stock(deltas):
    """t times the mean, t = n cos / (1 + (n - 1) cos), cos the mean over all pairs."""
    deltas = [_f8(d) for d in deltas]
    count, cosines = len(deltas), []
    for i, one in enumerate(deltas):
        for other in deltas[i + 1 :]:
            size = np.linalg.norm(one) * np.linalg.norm(other)
            cosines.append((one * other).sum() / size if size else 0.0)
    cosine = np.mean(cosines)
    divisor = 1 + (count - 1) * cosine
    t = 0.0 if abs(divisor) < 1e-6 else count * cosine / divisor
    return t * sum(deltas) / count


def nearswap(delta, t):
    """The share min(1, t / |d|) of a task vector's entries."""
    delta = _f8(delta)
    size = np.abs(delta)
    return np.divide(t, size, out=np.ones_like(delta), where=size > t) * delta


def ram(deltas, epsilon):
    """An entry's mean over the models that move it by more than epsilon (arXiv:2601.13572)."""
    merged = []
    for entry in zip(*(map(float, np.ravel(d)) for d in deltas), strict=True):
        moved = [d for d in entry if abs(d) > epsilon]
        merged.append(sum(moved) / max(1, len(moved)))
    return np.array(merged)


def ramplus(deltas, r, alpha, epsilon):
    """As `ram`; an entry that one model alone moves is raised by that model's ratio of entries
    moved with others to entries moved alone (RAM+ of arXiv:2601.13572, over one tensor)."""
    columns = list(zip(*(map(float, np.ravel(d)) for d in deltas), strict=True))
    count = [sum(abs(d) > epsilon for d in entry) for entry in columns]
    factors = []
    for i in range(len(deltas)):
        shared = sum(n > 1 for e, n in zip(columns, count, strict=True) if abs(e[i]) > epsilon)
        alone = sum(n == 1 for e, n in zip(columns, count, strict=True) if abs(e[i]) > epsilon)
        factors.append(1 + r * min(alpha, shared / alone if alone else math.inf))
    merged = []
    for entry, n in zip(columns, count, strict=True):
        own = [f if n == 1 else 1 / max(n, 1) for f in factors]
        merged.append(sum(f * d for f, d in zip(own, entry, strict=True) if abs(d) > epsilon))
    return np.array(merged)


def arcee_fusion(delta, base):
    """The entries of the largest importance, by mergekit's definitions; rows: the last index."""
    delta, base = _f8(delta), _f8(base)
    scores = []
    for d, before in zip(delta.reshape(-1, delta.shape[-1]), base.reshape(-1, base.shape[-1]),
                         strict=True):  # fmt: skip
        p, q = (np.exp(v - scipy.special.logsumexp(v)) + 1e-8 for v in (before + d, before))
        scores.append(np.abs(d) * scipy.special.rel_entr(p, q).sum())
    scores = np.array(scores).reshape(delta.shape)
    ranked = sorted(scores.ravel())
    first, middle, third = (ranked[int(q * (len(ranked) - 1))] for q in (0.25, 0.5, 0.75))
    return np.where(scores >= middle + 1.5 * (third - first), delta, 0.0)


def sce(deltas, share):
    """Select, calculate, erase, entry by entry (FuseChat: Wan et al. 2024, arXiv:2408.07990)."""
    columns = [list(map(float, entry)) for entry in zip(*map(np.ravel, deltas), strict=True)]
    spread = [np.var(entry) for entry in columns]
    ranked = sorted((v for v in spread if v > 0), reverse=True)
    count = int(share * len(ranked))
    least = 0.0 if share == 1 else ranked[count - 1] if count else np.inf
    kept = [e if v >= least else [0.0] * len(e) for e, v in zip(columns, spread, strict=True)]
    squares = [sum(e[i] ** 2 for e in kept) for i in range(len(deltas))]
    merged = []
    for entry in kept:
        sign = np.sign(sum(entry))
        agreeing = [(w, d) for w, d in zip(squares, entry, strict=True) if sign and d * sign > 0]
        weight = sum(w for w, _ in agreeing)
        merged.append(sum(w * d for w, d in agreeing) / weight if weight else 0.0)
    return np.array(merged)
