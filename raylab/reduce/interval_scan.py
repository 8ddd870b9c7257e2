"""The fast way through a pair of models: no buckets, where thresholds were foreseen.

Model: one pass takes the sums of all entries and of those above each run of buckets that were
foreseen to hold a threshold, and counts what lies in a run by its magnitude (see
`raylab.reduce.interval_scanner`). That is enough for norms and thresholds, though not for the
curve, and costs a quarter of what filling buckets costs.

Sums are float64, of pieces of rows whose bounds depend on the tensor alone; pieces are added as
integers, so that their order leaves no trace. They may differ from the sums of buckets, which
are exact, in the last bits.
Invariant: counts are exact. A threshold outside every run is not guessed: `at_density` gives
None, and the caller takes the way over buckets.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from raylab.errors import NonFiniteError
from raylab.reduce.histogram import INFINITY, Extremes, Norms, partial_sums
from raylab.reduce.histogram_numba import squares_of
from raylab.reduce.interval_scanner import Above, Piece, Scanner, runs_of
from raylab.reduce.row_block import Models, Pair, Tile
from raylab.reduce.threshold import AtDensity, kept_at, num_keep, within
from raylab.weights.row_tiles import TILE_ENTRIES, in_threads, tiles

_PIECE = 16 * TILE_ENTRIES


@dataclass
class Scanned:
    """What a scan gave: norms and squares of b's weights by tensor, sums above each run (the
    first: of all entries), and counts int64 (65536,) by bucket."""

    runs: list[tuple[int, int]]
    norms: dict[str, Norms] = field(default_factory=dict)
    squares: dict[str, float] = field(default_factory=dict)
    above: list[Above] = field(default_factory=list)
    counts: dict[int, np.ndarray] = field(default_factory=dict)
    extremes: Extremes = field(default_factory=Extremes)
    bytes_read: int = 0


def scan_pair(
    models: Models, pair: Pair, names: Sequence[str], buckets: Sequence[int], threads: int
) -> Scanned:
    """One pass over the tensors `names` of one comparison. Raises NonFiniteError."""
    before = models.bytes_read
    found = _Scan(models, pair, buckets)
    in_threads(list(_pieces(models, pair, names)), found.take, threads)
    result = found.result()
    result.bytes_read = models.bytes_read - before
    return result


def _pieces(models: Models, pair: Pair, names: Sequence[str]) -> Iterator[tuple[str, int, int]]:
    """Larger pieces where no product is held, whose bits and memory would depend on them."""
    whole = models.has_values(pair.a) and models.has_values(pair.b)
    for name in names:
        large = whole or models.factors(pair, name)
        for rows in tiles(models.shapes[name], _PIECE if large else TILE_ENTRIES):
            yield (name, *rows)


class _Scan:
    """A scan in progress, fed by many threads."""

    def __init__(self, models: Models, pair: Pair, buckets: Sequence[int]) -> None:
        self._models, self._pair, self._runs = models, pair, runs_of(buckets)
        self._local, self._lock = threading.local(), threading.Lock()
        self._scanners: list[Scanner] = []
        self._found: list[tuple[str, Piece]] = []

    def take(self, piece: tuple[str, int, int]) -> None:
        """Scan one piece of rows."""
        found = self._piece(piece)
        if found is None:
            return
        if found.extremes.largest >= INFINITY:
            raise NonFiniteError(
                f"{self._pair.name}: a difference is not finite",
                found=piece[0],
                expected="numbers",
            )
        with self._lock:
            self._found.append((piece[0], found))

    def _piece(self, piece: tuple[str, int, int]) -> Piece | None:
        tile, pair = Tile(self._models, *piece), self._pair
        factors = self._models.factors(pair, piece[0])
        if factors:
            found = self._scanner().scan_products(*factors, *piece[1:])
            is_reference = False
        else:
            difference = tile.difference(pair.a, pair.b)
            if difference is None:
                return None
            found = self._scanner().scan(difference.a, difference.b)
            is_reference = self._models.reference(pair.b) == pair.b and (
                difference.b is tile.values(pair.b)
            )
        if not is_reference:
            # What was subtracted is a task vector, not the weights to be relative to.
            found.squares = sum(squares_of(rows) for _, rows in tile.references([pair]))
        return found

    def _scanner(self) -> Scanner:
        if not hasattr(self._local, "scanner"):
            self._local.scanner = Scanner(self._runs)
            with self._lock:
                self._scanners.append(self._local.scanner)
        scanner: Scanner = self._local.scanner
        return scanner

    def result(self) -> Scanned:
        """Everything added up; integers, or fsum, in any order."""
        total = Scanned(self._runs, above=[Above() for _ in range(len(self._runs) + 1)])
        squares: dict[str, list[float]] = {}
        for name, piece in self._found:
            total.norms[name] = total.norms.get(name, Norms()) + piece.norms
            total.extremes += piece.extremes
            squares.setdefault(name, []).append(piece.squares)
            for mine, more in zip(total.above, piece.above, strict=True):
                mine.merge(more)
        total.squares = {name: math.fsum(parts) for name, parts in squares.items()}
        for scanner in self._scanners:
            for bucket, counts in scanner.by_bucket():
                known = total.counts.setdefault(bucket, np.zeros(1 << 16, dtype=np.int64))
                known += counts
        return total


def at_density(found: Scanned, density: float) -> AtDensity | None:
    """Threshold and trimmed norms at `density`; None where no run holds the threshold."""
    whole = found.above[0]
    keep = num_keep(density, whole.entries)
    sums = (whole.l1_exact, whole.l2_exact)
    if keep == whole.entries:
        return kept_at(density, keep, found.extremes.smallest, keep, sums, sums)
    for (first, last), above in zip(found.runs, found.above[1:], strict=True):
        taken, l1, l2 = above.entries, above.l1_exact, above.l2_exact
        if keep <= taken:
            return None
        for bucket in range(last, first - 1, -1):
            counts = found.counts[bucket]
            inside = int(counts.sum())
            if taken + inside >= keep:
                trimmed, threshold, reached = within(bucket, counts, keep - taken)
                trimmed = (l1 + trimmed[0], l2 + trimmed[1])
                return kept_at(density, keep, threshold, taken + reached, trimmed, sums)
            more = partial_sums(bucket, counts)
            taken, l1, l2 = taken + inside, l1 + more[0], l2 + more[1]
    return None
