"""Relates the models of a shard to each other, tensor by tensor and tile by tile.

Model: `Relating` belongs to one pass. At first the inner products that follow from factors are
taken; then tiles add signs, masks and the inner products of all other pairs; at the end both are
put together.
Invariant: which way a product takes depends on its two models and the tensor alone.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from raylab.reduce.masks import Limits
from raylab.reduce.pairwise import Relation
from raylab.reduce.row_block import Models, Tile
from raylab.weights.row_tiles import in_threads

if TYPE_CHECKING:
    from raylab.reduce.products import OrderedSum


@dataclass
class _OfTensor:
    """dot: float64 (N, N), those of `by_factors`; dots: the others that are wanted."""

    dot: np.ndarray
    by_factors: np.ndarray
    dots: np.ndarray
    total: OrderedSum


class Relating:
    """The products of the models of `limits`, with masks at these; any thread may add a tile."""

    def __init__(
        self, models: Models, names: Sequence[str], limits: Limits, threads: int = 1
    ) -> None:
        """Take what follows from factors, `threads` tensors at a time. Without limits, nothing is
        related."""
        self._models, self._limits = models, limits
        self._tensors: dict[str, _OfTensor] = {}
        self._lock = threading.Lock()
        if limits:
            # Threads take one BLAS thread each only if torch is imported before they start.
            import torch  # noqa: F401

            in_threads(names, self._start, threads)

    def add(self, tile: Tile, name: str, start: int, stop: int) -> None:
        """Take in rows [start, stop) of a tensor."""
        if not self._limits:
            return
        from raylab.reduce.products import products_of

        own = self._tensors[name]
        deltas = {key: tile.rows(key) for key in self._limits}
        related = self._models.related
        products = products_of(tile.numel, deltas, self._limits, related, own.dots)
        with self._lock:
            own.total.add(start, stop, products)

    def is_light(self, name: str) -> bool:
        """Whether no rows of a tensor are held for it, but formed where they are used, and none
        of its inner products is a sum over tiles."""
        if not self._limits:
            return True
        chains = [self._models.terms(key, name) for key in self._limits]
        return all(each is not None for each in chains) and not self._tensors[name].dots.any()

    def relation(self) -> Relation:
        """All tensors that were gone through, on the host."""
        found = Relation()
        for name, own in self._tensors.items():
            if own.total.total is not None:
                total = own.total.total.on_host()
                dot = np.where(own.by_factors, own.dot, total.dot)
                found.tensors[name] = replace(total, dot=dot, by_factors=own.by_factors)
        return found

    def _start(self, name: str) -> None:
        from raylab.reduce.factor_products import factor_products
        from raylab.reduce.products import OrderedSum

        wanted = self._models.related.pairs(self._limits)
        chains = [self._models.plain(key, name) for key in self._limits]
        dot, by_factors = factor_products(chains, wanted)
        self._tensors[name] = _OfTensor(dot, by_factors, wanted & ~by_factors, OrderedSum())
