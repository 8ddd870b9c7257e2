"""One shard's whole job: every comparison over its tensors, each model read once. No Ray.

Model: tiles are handed to threads; a tile's rows are read once per model, and every comparison
subtracts two of them. `sample` looks at a few rows; `measure` takes norms and moments, the
magnitudes of the buckets that the sample foresaw, the products of all pairs of task vectors, and
masks at the thresholds that the sample guessed; `collect` gives the candidates of the true
boundary buckets (reading again only what was not foreseen); `mask` takes masks at the true
thresholds, where the guesses were none or wrong. The results of shards add up.
Invariant: tiles and one BLAS thread make the bits of a delta depend on the tensor alone; sums
are exact integers, or float64 combined in the order of the tiles. So the outcome is the same
for any number of threads and any split into shards.
"""

from __future__ import annotations

import math
import threading
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from raylab.errors import NonFiniteError
from raylab.reduce.histogram import (
    BUCKETS,
    INFINITY,
    Candidates,
    Extremes,
    Moments,
    Norms,
    add_candidates,
    add_moments,
    no_moments,
    norms_of,
)
from raylab.reduce.histogram_backend import Tally, add_sample, sum_of_squares, tally_for
from raylab.reduce.model_details import Details, detail
from raylab.reduce.pairwise import InOrder, Limits, Masks, Relation, masks_of, products_of
from raylab.reduce.row_block import Difference, Models, Pair, Tile
from raylab.reduce.sample_histogram import add_products
from raylab.reduce.threshold_sampling import NOTHING_FORESEEN, Foreseen, sample_rows
from raylab.weights.row_tiles import Piece, in_threads, tiles

Buckets = Mapping[str, Sequence[int]]
Found = dict[str, Candidates]


@dataclass
class Measured:
    """Norms by comparison and tensor, moments and extremes by comparison; results add up."""

    norms: dict[str, dict[str, Norms]] = field(default_factory=dict)
    moments: dict[str, Moments] = field(default_factory=dict)
    extremes: dict[str, Extremes] = field(default_factory=dict)
    squares: dict[str, dict[str, float]] = field(default_factory=dict)
    """Sum of squares of weights, by model and tensor, for relative norms."""
    relation: Relation = field(default_factory=Relation)
    non_finite: int = 0
    bytes_read: int = 0

    def add(self, pair: str, tensor: str, moments: Moments, found: Extremes) -> None:
        """Take in one tensor of one comparison."""
        self.norms.setdefault(pair, {})[tensor] = norms_of(moments, found)
        self._sum(pair, moments, found)

    def merge(self, other: Measured) -> None:
        """Take in what another shard found."""
        for pair, tensors in other.norms.items():
            self.norms.setdefault(pair, {}).update(tensors)
            self._sum(pair, other.moments[pair], other.extremes[pair])
        for key, squares in other.squares.items():
            self.squares.setdefault(key, {}).update(squares)
        self.relation.merge(other.relation)
        self.non_finite += other.non_finite
        self.bytes_read += other.bytes_read

    def _sum(self, pair: str, moments: Moments, found: Extremes) -> None:
        add_moments(self.moments.setdefault(pair, no_moments()), moments)
        self.extremes[pair] = self.extremes.get(pair, Extremes()) + found


class ShardJob:
    """Reduces the tensors of shards; holds the open models."""

    def __init__(self, models: Models, pairs: Sequence[Pair], threads: int = 1) -> None:
        """`models` are open; `threads` share the tiles."""
        self.models, self._pairs, self._threads = models, tuple(pairs), threads
        self._foreseen: dict[tuple[str, ...], list[dict[str, Foreseen]]] = {}

    def sample(self, names: Sequence[str]) -> tuple[dict[str, np.ndarray], int]:
        """(how many entries of a sample fall in each bucket, and how many of them are short,
        int64 (2, BUCKETS), by comparison; the bytes read for it)."""
        before = self.models.bytes_read
        shape = (len(self._pairs), 2, BUCKETS)
        made, local = [np.zeros(shape, dtype=np.int64)], threading.local()

        def one(piece: Piece) -> None:
            if not hasattr(local, "counts"):
                local.counts = np.zeros(shape, dtype=np.int64)
                made.append(local.counts)
            tile = Tile(self.models, *piece)
            for pair, counts in zip(self._pairs, local.counts, strict=True):
                factors = self.models.factors(pair, piece[0])
                if factors and self.models.device.type == "cpu":
                    add_products(*factors, *piece[1:], counts)
                elif difference := tile.difference(pair.a, pair.b):
                    add_sample(difference.values(), counts)

        shapes = self.models.shapes
        pieces = [(n, *rows) for n in names for rows in sample_rows(shapes[n])]
        in_threads(pieces, one, self._threads)
        total = dict(zip((pair.name for pair in self._pairs), np.sum(made, axis=0), strict=True))
        return total, self.models.bytes_read - before

    def measure(self, names: Sequence[str], foreseen: Buckets, limits: Limits) -> Measured:
        """Norms and moments of every comparison over the tensors `names`, and the products of the
        models of `limits` with masks there; the candidates in the buckets of `foreseen` are kept
        for `collect`."""
        before = self.models.bytes_read
        counted = self._pass(self._pieces(names), self._pairs, foreseen, limits)
        self._foreseen[tuple(names)] = counted.foreseen
        counted.result.bytes_read = self.models.bytes_read - before
        return counted.result

    def collect(self, names: Sequence[str], buckets: Buckets) -> tuple[Found, bool, int]:
        """(the candidates of every comparison in its boundary buckets, whether tensors had to
        be gone through again, and the bytes read for it)."""
        before = self.models.bytes_read
        kept = self._foreseen.pop(tuple(names), [])
        missed = {
            pair: wanted for pair, wanted in buckets.items() if not _covers(kept, pair, wanted)
        }
        found: Found = {pair: {} for pair in buckets}
        if missed:
            pairs = [pair for pair in self._pairs if pair.name in missed]
            counted = self._pass(self._pieces(names), pairs, missed, {})
            _gather(found, counted.foreseen, missed)
        _gather(found, kept, {p: wanted for p, wanted in buckets.items() if p not in missed})
        return found, bool(missed), self.models.bytes_read - before

    def mask(self, names: Sequence[str], limits: Limits) -> tuple[dict[str, Masks], int]:
        """(the masks of the models of `limits` by tensor, and the bytes read for it)."""
        before = self.models.bytes_read
        found: dict[str, Masks] = {}
        lock = threading.Lock()

        def one(piece: Piece) -> None:
            tile = Tile(self.models, *piece)
            masks = masks_of(tile.numel, {key: tile.delta(key) for key in limits}, limits)
            with lock:
                found[piece[0]] = found.get(piece[0], 0) + masks

        in_threads(self._pieces(names), one, self._threads)
        return found, self.models.bytes_read - before

    def detail(self, names: Sequence[str]) -> Details:
        """Spectra, chains and audits of the trained models."""
        models = self.models
        return detail(models.trained, names, models.weights, models.quantization)

    def _pieces(self, names: Sequence[str]) -> list[Piece]:
        return [(n, *rows) for n in names for rows in tiles(self.models.shapes[n])]

    def _pass(
        self, pieces: Sequence[Piece], pairs: Sequence[Pair], foreseen: Buckets, limits: Limits
    ) -> _Pass:
        counted = _Pass(self.models, pairs, pieces, foreseen, limits)
        in_threads(pieces, counted.tally, self._threads)
        return counted


def _covers(kept: Sequence[Mapping[str, Foreseen]], pair: str, wanted: Sequence[int]) -> bool:
    """Whether every thread has counted the buckets `wanted` of a comparison."""
    if not wanted:
        return True
    return bool(kept) and all(pair in own and set(wanted) <= set(own[pair].buckets) for own in kept)


def _gather(found: Found, kept: Sequence[Mapping[str, Foreseen]], wanted: Buckets) -> None:
    """Add what each thread counted; sums of counts, in any order."""
    for pair, buckets in wanted.items():
        total: dict[int, np.ndarray] = {}
        for foreseen in kept if buckets else ():
            add_candidates(total, foreseen[pair].candidates(buckets))
        for bucket, counts in total.items():
            low = np.flatnonzero(counts)
            found[pair][bucket] = (low, counts[low])


@dataclass
class _Sums:
    """What the tiles of one tensor have given so far, by comparison."""

    tiles_left: int
    moments: dict[str, Moments] = field(default_factory=dict)
    extremes: dict[str, Extremes] = field(default_factory=dict)
    squares: dict[str, list[float]] = field(default_factory=dict)
    products: InOrder = field(default_factory=InOrder)


class _Pass:
    """One pass over tiles: sums by comparison, filled by many threads, a tensor at a time."""

    def __init__(
        self,
        models: Models,
        pairs: Sequence[Pair],
        pieces: Sequence[Piece],
        foreseen: Buckets,
        limits: Limits,
    ) -> None:
        self._models, self._pairs = models, pairs
        self._wanted, self._limits = foreseen, limits
        self._sums = {name: _Sums(n) for name, n in Counter(p[0] for p in pieces).items()}
        self._lock, self._local = threading.Lock(), threading.local()
        self.result = Measured()
        self.foreseen: list[dict[str, Foreseen]] = []

    def tally(self, piece: Piece) -> None:
        """Take in one tile."""
        tile = Tile(self._models, *piece)
        sums = self._sums[piece[0]]
        for pair in self._pairs:
            difference = tile.difference(pair.a, pair.b)
            if difference is not None:
                self._add(pair.name, difference, sums, piece[0])
        squares = {key: sum_of_squares(values) for key, values in tile.references(self._pairs)}
        if self._limits:
            self._relate(tile, sums, piece)
        with self._lock:
            for key, square in squares.items():
                sums.squares.setdefault(key, []).append(square)
            sums.tiles_left -= 1
            if sums.tiles_left == 0:
                self._close(piece[0], self._sums.pop(piece[0]))

    def _add(self, pair: str, difference: Difference, sums: _Sums, tensor: str) -> None:
        table, foreseen = self._own()
        difference.into(table, foreseen.get(pair, NOTHING_FORESEEN))
        with self._lock:
            found = table.flush(sums.moments.setdefault(pair, no_moments()))
            sums.extremes[pair] = sums.extremes.get(pair, Extremes()) + found
            self.result.non_finite += difference.left_out
        if found.largest >= INFINITY:
            raise NonFiniteError(
                f"{pair}: a difference is not finite", found=tensor, expected="numbers"
            )

    def _relate(self, tile: Tile, sums: _Sums, piece: Piece) -> None:
        deltas = {key: tile.delta(key) for key in self._limits}
        products = products_of(tile.numel, deltas, self._limits)
        with self._lock:
            sums.products.add(*piece[1:], products)

    def _close(self, tensor: str, sums: _Sums) -> None:
        for pair, moments in sums.moments.items():
            self.result.add(pair, tensor, moments, sums.extremes[pair])
        for key, squares in sums.squares.items():
            # fsum rounds the exact sum once, so the order of the tiles leaves no trace.
            self.result.squares.setdefault(key, {})[tensor] = math.fsum(squares)
        if sums.products.total is not None:
            self.result.relation.tensors[tensor] = sums.products.total

    def _own(self) -> tuple[Tally, dict[str, Foreseen]]:
        """This thread's table and counts."""
        if not hasattr(self._local, "table"):
            self._local.table = tally_for(self._models.device)
            self._local.foreseen = {pair: Foreseen(b) for pair, b in self._wanted.items()}
            with self._lock:
                self.foreseen.append(self._local.foreseen)
        return self._local.table, self._local.foreseen
