"""Rows of the tables norms, densities and curve, made of the sums of a reduction.

Invariant: rows come by level (all, layer, module, tensor) and key, in the order of the model's
layers; a norm of several tensors is the exact sum of theirs, rounded once.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from raylab.reduce.histogram import Norms
from raylab.reduce.measured import Measured
from raylab.reduce.row_block import Pair
from raylab.reduce.threshold import AtDensity, curve
from raylab.weights.names import levels

Row = dict[str, Any]


def norm_rows(
    pair: Pair, total: Measured, reference: str, tolerance: float, common: Mapping[str, Any]
) -> Iterator[Row]:
    """Rows of norms; relative to the weights of the model `reference` where they were read. An
    entry above `tolerance` moved."""
    tensors = total.norms.get(pair.name, {})
    squares = total.squares.get(reference, {})
    for level, key, members in levels(tensors):
        norms = sum((tensors[name] for name in members), Norms())
        yield {
            "comparison": pair.name,
            "a": pair.a,
            "b": pair.b,
            **common,
            "level": level,
            "key": key,
            **row_of(norms),
            "tolerance": tolerance,
            "relative_l2": relative_l2(norms, members, squares),
        }


def row_of(norms: Norms) -> Row:
    """The columns that every row of norms has."""
    return {
        "numel": norms.numel,
        "l1": norms.l1,
        "l2": norms.l2,
        "linf": norms.linf,
        "nonzero": norms.nonzero,
        "moved": norms.moved,
    }


def relative_l2(norms: Norms, members: Sequence[str], squares: Mapping[str, float]) -> float | None:
    """l2 over the L2 of the weights in the same tensors; None where they were not read."""
    if not members or any(name not in squares for name in members):
        return None
    weights = math.sqrt(math.fsum(squares[name] for name in members))
    return norms.l2 / weights if weights > 0 else None


def density_rows(pair: Pair, kept: Sequence[AtDensity], common: Mapping[str, Any]) -> Iterator[Row]:
    """Rows of densities; none for a comparison of nothing."""
    for found in kept:
        yield {"comparison": pair.name, **common, **asdict(found)}


def curve_rows(pair: Pair, total: Measured, common: Mapping[str, Any]) -> Iterator[Row]:
    """Rows of the curve; none for a comparison of nothing."""
    found = total.magnitudes.get(pair.name)
    if found is None or found.moments is None:
        return
    for density, l1_share, l2_share in curve(found.moments):
        yield {
            "comparison": pair.name,
            **common,
            "density": density,
            "l1_share": l1_share,
            "l2_share": l2_share,
        }
