"""How two task vectors relate, in whole-array numpy: float64 sums, integer counts.

Shares no code with raylab and none of its method: a threshold is found by sorting, a sum by
math.fsum, and names are taken apart by hand.
"""

import math
from decimal import Decimal

import numpy as np


def whole(vectors, names, dtype=np.float32):
    """The entries of `names` in a row; a tensor that is not there has none."""
    return np.concatenate([np.asarray(vectors[n], dtype).ravel() for n in names])


def threshold(vectors, density):
    """The num_keep-th largest magnitude of a whole task vector; 0 where it has no entries."""
    if not vectors:
        return np.float32(0)
    ordered = np.sort(np.abs(whole(vectors, vectors)))[::-1]
    return ordered[max(1, int(Decimal(str(density)) * ordered.size)) - 1]


def mask(values, limit):
    """What a density keeps: at or above the threshold, and not zero."""
    return (np.abs(values) >= limit) & (values != 0)


def groups(names):
    """{(level, key): names} of the whole, every layer and every module kind."""
    found = {("all", "all"): list(names)}
    for name in names:
        parts = name.split(".")
        numbers = [i for i, part in enumerate(parts) if part.isdigit()]
        layer = parts[: numbers[0] + 1] if numbers else parts[:-1]
        kind = parts[-2] if parts[-1] == "weight" else ".".join(parts[-2:])
        found.setdefault(("layer", ".".join(layer)), []).append(name)
        found.setdefault(("module", kind), []).append(name)
    return found


def relate(a, b):
    """(cosine, sign agreement, sign conflict) of two float arrays; None where undefined."""
    x, y = (v.astype(np.float64) for v in (a, b))
    dot, xx, yy = (math.fsum((p * q).tolist()) for p, q in ((x, y), (x, x), (y, y)))
    both = int(np.count_nonzero((a != 0) & (b != 0)))
    agree = int(np.count_nonzero(np.sign(a) * np.sign(b) > 0))
    return (
        dot / (math.sqrt(xx) * math.sqrt(yy)) if xx > 0 and yy > 0 else None,
        agree / both if both else None,
        (both - agree) / both if both else None,
    )


def overlap(a, b, limits):
    """(overlap, overlap by chance) of the masks of two arrays; None where a mask is empty."""
    one, two = (mask(v, limit) for v, limit in zip((a, b), limits, strict=True))
    kept = math.sqrt(int(one.sum()) * int(two.sum()))
    return int((one & two).sum()) / kept if kept else None, kept / a.size


def rows(a, b, densities, exact=None):
    """{(level, key, density): row} of two task vectors {name: array}; what one of them lacks is
    zero there, what both lack does not count. exact: both before they were rounded to float32,
    whose cosines are wanted."""
    names = [*a, *(name for name in b if name not in a)]
    zeros = {n: np.zeros(np.shape(a[n] if n in a else b[n]), np.float32) for n in names}
    found = {}
    for (level, key), members in groups(names).items():
        x, y = (whole({**zeros, **v}, members) for v in (a, b))
        cosine, agreement, conflict = relate(x, y)
        if exact:
            cosine, *_ = relate(*(whole({**zeros, **v}, members, np.float64) for v in exact))
        for density in densities:
            common, chance = overlap(x, y, [threshold(v, density) for v in (a, b)])
            found[level, key, density] = {
                "numel": x.size,
                "cosine": cosine,
                "sign_agreement": agreement,
                "sign_conflict": conflict,
                "overlap": common,
                "overlap_by_chance": chance,
            }
    return found
