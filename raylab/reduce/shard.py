"""One shard's whole work: every comparison over its tensors, each model read once. No Ray.

Model: tiles are handed to threads; a tile's rows are read once per model, and every comparison
subtracts two of them. `sample` looks at a few rows; `measure` takes norms, histograms or sums of
intervals, the counts of the buckets that the sample foresaw, and, where the sample guessed every
threshold, the products of all pairs of task vectors; `collect` gives the candidates of the true
boundary buckets, and reads tensors again only where buckets were not foreseen; `relate` takes the
products of all pairs, with masks at the true thresholds, where these were not guessed. The results
of shards add up.
Invariant: tiles and one BLAS thread make the bits of a delta depend on the tensor alone; sums
are exact integers, or float64 combined in the order of the tiles. So the outcome is the same
for any number of threads and any split into shards, with histograms and without.
"""

from __future__ import annotations

import math
import threading
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from raylab.errors import NonFiniteError
from raylab.reduce.collected import Found, bytes_of, covers, gather, packed
from raylab.reduce.differences import LowRankDifference
from raylab.reduce.entries import as_array
from raylab.reduce.freed_memory import give_back
from raylab.reduce.histogram import (
    BUCKETS,
    INFINITY,
    TILE,
    Magnitudes,
    bits_below,
    norms_of,
)
from raylab.reduce.histogram_backend import Counts, Tally, tallies_for
from raylab.reduce.masks import Limits
from raylab.reduce.measured import Buckets, Measured
from raylab.reduce.pairwise import Relation
from raylab.reduce.relating import Relating
from raylab.reduce.row_block import Models, Pair, Tile
from raylab.reduce.rows_ahead import Run, piece_of, rows_ahead
from raylab.reduce.squares import squares_by_tile
from raylab.reduce.threshold_sampling import add_products, add_values, sample_rows
from raylab.weights.row_tiles import Piece, columns_of, in_threads, tiles
from raylab.weights.safetensors_reader import Shape

if TYPE_CHECKING:
    from raylab.reduce.intruders import BaseSums
    from raylab.reduce.model_details import Details
    from raylab.reduce.subspaces import TensorSubspaces

_TOGETHER = 16
"""Tiles that are read at once where nothing is held but the weights themselves."""
_HELD = 1 << 26
"""From so many bytes of counts on, those of a shard are packed until they are asked for."""


class ShardJob:
    """Reduces the tensors of shards; holds the open models."""

    def __init__(self, models: Models, pairs: Sequence[Pair], threads: int = 1) -> None:
        """`models` are open; `threads` share the tiles."""
        self.models, self._pairs, self._threads = models, tuple(pairs), threads
        self._counted: dict[tuple[str, ...], list[Mapping[str, Counts]]] = {}
        self._are_many = False

    def sample(self, names: Sequence[str]) -> tuple[dict[str, np.ndarray], int]:
        """(how many entries of a sample each bucket holds, and how many of them are short,
        int64 (2, BUCKETS), by comparison; the bytes read for it)."""
        before, gpu = self.models.bytes_read, self.models.gpu
        if gpu:
            counts = _on_gpu().sampled(self.models, gpu, self._pairs, names)
            return counts, self.models.bytes_read - before
        shape = (len(self._pairs), 2, BUCKETS)
        made, local = [np.zeros(shape, dtype=np.int64)], threading.local()

        def one(piece: Piece) -> None:
            if not hasattr(local, "counts"):
                local.counts = np.zeros(shape, dtype=np.int64)
                made.append(local.counts)
            tile = Tile(self.models, *piece)
            for pair, counts in zip(self._pairs, local.counts, strict=True):
                match tile.difference(pair.a, pair.b):
                    case LowRankDifference() as low_rank:
                        add_products(low_rank.a, low_rank.b, *piece[1:], counts)
                    case difference if difference is not None:
                        add_values(as_array(difference.values()), counts)

        shapes = self.models.shapes
        pieces = [(n, *rows) for n in names for rows in sample_rows(shapes[n])]
        ahead = rows_ahead(self.models, self._pairs, pieces, lambda piece: piece, one)
        in_threads(pieces, ahead, self._threads)
        total = dict(zip((pair.name for pair in self._pairs), np.sum(made, axis=0), strict=True))
        return total, self.models.bytes_read - before

    def measure(
        self, names: Sequence[str], foreseen: Buckets, limits: Limits, histograms: bool = True
    ) -> Measured:
        """Norms and magnitudes of every comparison over the tensors `names`, and the products of
        the models of `limits`, if any, with masks there; the candidates in the buckets of
        `foreseen` are kept for `collect`. Without `histograms`, the entries above these buckets are
        summed instead. Raises NonFiniteError."""
        before = self.models.bytes_read
        found, tallies = self._pass(names, self._pairs, foreseen, limits, histograms)
        is_packed = bytes_of(tallies) >= _HELD and not self.models.gpu
        self._counted[tuple(names)] = packed(tallies) if is_packed else tallies
        self._are_many = self._are_many or is_packed
        del tallies
        self._give_back()
        found.bytes_read = self.models.bytes_read - before
        return found

    def collect(self, names: Sequence[str], buckets: Buckets) -> tuple[Found, bool, int]:
        """(the candidates of every comparison in its boundary buckets, whether tensors had to
        be gone through again, and the bytes read for it)."""
        before = self.models.bytes_read
        kept = self._counted.pop(tuple(names), [])
        missed = {p: wanted for p, wanted in buckets.items() if not covers(kept, p, wanted)}
        found: Found = {pair: {} for pair in buckets}
        if missed:
            pairs = [pair for pair in self._pairs if pair.name in missed]
            gather(found, self._pass(names, pairs, missed, {}, True)[1], missed)
        gather(found, kept, {p: wanted for p, wanted in buckets.items() if p not in missed})
        del kept
        self._give_back()
        return found, bool(missed), self.models.bytes_read - before

    def relate(self, names: Sequence[str], limits: Limits) -> tuple[Relation, int]:
        """(the products of the models of `limits`, with masks there, and the bytes read for it)."""
        before = self.models.bytes_read
        found, _ = self._pass(names, (), {}, limits, True)
        self._give_back()
        return found.relation, self.models.bytes_read - before

    def subspaces(
        self, names: Sequence[str], with_phi: bool = False
    ) -> tuple[dict[str, TensorSubspaces], int]:
        """(the subspaces of the models to relate, by tensor; the bytes read for it)."""
        from raylab.reduce.subspaces import subspaces_of

        before = self.models.bytes_read
        sides = {key: self.models.sides[key] for key in self.models.trained}
        fresh = self.models.related.fresh
        found = subspaces_of(sides, names, fresh, self._threads, with_phi)
        return found, self.models.bytes_read - before

    def detail(self, names: Sequence[str]) -> Details:
        """Spectra, chains and audits of the trained models."""
        from raylab.reduce.model_details import detail

        return detail(self.models.trained, names, self.models.weights, self.models.quantization)

    def intruders(self, names: Sequence[str], *asked: Any) -> dict[str, dict[str, BaseSums]]:
        """The trained models against the base model's own directions; see held_against_base."""
        from raylab.reduce.intruders import held_against_base

        return held_against_base(self.models, names, *asked)

    def _give_back(self) -> None:
        if self._are_many:  # Each shard leaves some ten megabytes in pieces.
            give_back()

    def _pass(
        self,
        names: Sequence[str],
        pairs: Sequence[Pair],
        buckets: Buckets,
        limits: Limits,
        histograms: bool,
    ) -> tuple[Measured, list[Mapping[str, Counts]]]:
        """(the sums, what every thread counted in `buckets`)."""
        if self.models.gpu:
            whole = _on_gpu().GpuPass(self.models, self.models.gpu, pairs, names, buckets, limits)
            return whole.result(), [whole.sums]
        relating = Relating(self.models, names, limits, self._threads)
        counted = _Pass(self.models, pairs, names, buckets, relating, histograms)
        ahead = rows_ahead(self.models, pairs, counted.runs, piece_of, counted.take)
        in_threads(counted.runs, ahead, self._threads)
        return counted.result(), list(counted.tallies)


def _on_gpu() -> Any:
    """The same work on a GPU, whose kernels only a machine with a GPU needs to import."""
    from raylab.reduce import gpu_pass

    return gpu_pass


@dataclass
class _Sums:
    """The sums over the tiles of one tensor so far, by comparison or model."""

    runs_left: int
    magnitudes: dict[str, Magnitudes] = field(default_factory=dict)
    squares: dict[str, list[float]] = field(default_factory=dict)


class _Pass:
    """One pass over tiles: sums by comparison, filled by many threads, a tensor at a time."""

    def __init__(
        self,
        models: Models,
        pairs: Sequence[Pair],
        names: Sequence[str],
        buckets: Buckets,
        relating: Relating,
        histograms: bool,
    ) -> None:
        self._models, self._pairs, self._relating = models, pairs, relating
        self._buckets = {pair.name: buckets.get(pair.name, ()) for pair in pairs}
        self._histograms = histograms
        self.runs: list[Run] = [(name, bounds) for name in names for bounds in self._runs(name)]
        self._sums = {name: _Sums(n) for name, n in Counter(run[0] for run in self.runs).items()}
        self._lock, self._local = threading.Lock(), threading.local()
        self._found = Measured()
        self.tallies: list[dict[str, Tally]] = []

    def _runs(self, name: str) -> Iterator[tuple[tuple[int, int], ...]]:
        """The tiles of a tensor as they are read: several at once where no delta is held."""
        models = self._models
        is_light = not models.skip_non_finite and self._relating.is_light(name)
        values = {key for pair in self._pairs for key in (pair.a, pair.b)}
        has_terms = all(models.terms(key, name) is not None for key in values)
        has_values = all(map(models.has_values, values))
        bounds, together = list(tiles(models.shapes[name])), 1
        if is_light and has_terms:
            together = _most_together(models.shapes[name])
        elif is_light and has_values and not self._histograms:
            together = _TOGETHER
        for start in range(0, len(bounds), together):
            yield tuple(bounds[start : start + together])

    def take(self, run: Run) -> None:
        """Take in one run of tiles. Raises NonFiniteError."""
        name, first, last = piece_of(run)
        bounds = run[1]
        heights = [stop - start for start, stop in bounds]
        tile, sums = Tile(self._models, name, first, last), self._sums[name]
        squares: dict[str, list[float]] = {}
        for pair in self._pairs:
            difference = tile.difference(pair.a, pair.b)
            if difference is None:
                continue
            tally = self._own()[pair.name]
            of_b = difference.add_to(tally, heights)
            if of_b is not None and self._models.reference(pair.b) == pair.b:
                squares[pair.b] = of_b
            with self._lock:
                found = tally.flush(sums.magnitudes.setdefault(pair.name, Magnitudes()))
                self._found.non_finite += difference.left_out
            if found.largest >= INFINITY:
                raise NonFiniteError(
                    f"{pair.name}: a difference is not finite", found=name, expected="numbers"
                )
        for key, values in tile.references(self._pairs):
            if key not in squares:
                squares[key] = squares_by_tile(values, heights)
        self._relating.add(tile, name, first, last)
        with self._lock:
            for key, parts in squares.items():
                sums.squares.setdefault(key, []).extend(parts)
            sums.runs_left -= 1
            if sums.runs_left == 0:
                self._close(name, self._sums.pop(name))

    def result(self) -> Measured:
        """All sums."""
        self._found.relation = self._relating.relation()
        return self._found

    def _close(self, tensor: str, sums: _Sums) -> None:
        for pair, found in sums.magnitudes.items():
            if found.moments is not None:
                found.norms = norms_of(found.moments, found.extremes)
            self._found.add(pair, tensor, found)
        for key, squares in sums.squares.items():
            # fsum rounds the exact sum once, so the order of the tiles leaves no trace.
            self._found.squares.setdefault(key, {})[tensor] = math.fsum(squares)

    def _own(self) -> dict[str, Tally]:
        """This thread's tallies."""
        if not hasattr(self._local, "tallies"):
            tolerance = bits_below(self._models.tolerance)
            self._local.tallies = tallies_for(self._buckets, self._histograms, tolerance)
            with self._lock:
                self.tallies.append(self._local.tallies)
        tallies: dict[str, Tally] = self._local.tallies
        return tallies


def _most_together(shape: Shape) -> int:
    """How many tiles a histogram, and planes of a megabyte, take at once."""
    height, _ = next(iter(tiles(shape)))[::-1]
    return max(1, TILE // max(1, height * columns_of(shape)))
