"""The fast way through a pair of models: no buckets, where thresholds were foreseen.

Model: a run is one or more neighbouring buckets (see `raylab.reduce.kernels`) that were foreseen
to hold a threshold. One pass takes the sums of all entries and of those above each run, and
counts what lies in a run by its magnitude. That is enough for norms and thresholds, though
not for the curve, and costs a quarter of what filling buckets costs (0.4 against 1.7 ns an
entry on one Zen 5 core). The magnitude that most entries of a run have (bf16 models have few
magnitudes) is compared for, not counted one by one.

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
import torch

from raylab.errors import NonFiniteError
from raylab.plan.shards import TILE_ENTRIES, tiles
from raylab.reduce.blas import in_threads
from raylab.reduce.compiled import squares_of
from raylab.reduce.kernels import INFINITY, NONE, Extremes, Norms, magnitude_of, partial_sums
from raylab.reduce.threshold import AtDensity, kept_at, num_keep, within
from raylab.reduce.tile import Models, Pair, Tile
from raylab.reduce.vectors import scan_bf16, scan_float

_PIECE = 16 * TILE_ENTRIES


@dataclass
class Above:
    """Of some entries: how many, and their exact sums as `Norms` has them."""

    entries: int = 0
    l1_exact: int = 0
    l2_exact: int = 0

    def add(self, entries: float, l1: float, l2: float) -> None:
        """Take in float64 sums of a piece; as integers they are added without rounding."""
        self.entries += int(entries)
        self.l1_exact += int(math.ldexp(l1, 149))
        self.l2_exact += int(math.ldexp(l2, 298))

    def merge(self, other: Above) -> None:
        """Take in the sums of other entries."""
        self.entries += other.entries
        self.l1_exact += other.l1_exact
        self.l2_exact += other.l2_exact


@dataclass
class Piece:
    """What one piece of rows gave: `above[0]` is of all entries, `squares` of b's weights."""

    numel: int
    extremes: Extremes
    above: list[Above]
    squares: float

    @property
    def norms(self) -> Norms:
        """The norms of the piece."""
        whole, ends = self.above[0], self.extremes
        linf = magnitude_of(ends.largest)
        return Norms(self.numel, ends.nonzero, linf, whole.l1_exact, whole.l2_exact)


def runs_of(buckets: Sequence[int]) -> list[tuple[int, int]]:
    """(first, last) of every run of neighbouring `buckets`, the largest first."""
    found: list[tuple[int, int]] = []
    for bucket in sorted(buckets):
        if found and found[-1][1] == bucket - 1:
            found[-1] = (found[-1][0], bucket)
        else:
            found.append((bucket, bucket))
    return found[::-1]


class Scanner:
    """One thread's counts of the entries in each run. Not to be shared."""

    def __init__(self, runs: Sequence[tuple[int, int]]) -> None:
        """Nothing counted yet in `runs`."""
        self.runs = list(runs)
        lengths = [last - first + 1 for first, last in runs]
        self._rows = np.cumsum([0, *lengths])
        self.counts = np.zeros((int(self._rows[-1]), 1 << 16), dtype=np.int32)
        # Ties of a large model may be more than int32 counts.
        self._usual = np.zeros(len(runs), dtype=np.int64)
        self._table = np.zeros((len(runs), 5), dtype=np.int32)
        self._table[:, 0] = [first << 16 for first, _ in runs]
        self._table[:, 1] = [(length << 16) - 1 for length in lengths]
        self._table[:, 2] = -1
        self._table[:, 3] = self._rows[:-1]
        tops = np.array([(last << 16) + 0xFFFF for _, last in runs], dtype=np.int32)
        self._limits = tops.view(np.float32)

    def scan(self, a: torch.Tensor, b: torch.Tensor | None) -> Piece:
        """A piece of a - b, in any float dtypes; b None: a itself, float32."""
        ends = np.array([0, NONE, 0], dtype=np.int64)
        sums = np.zeros((len(self.runs) + 1, 3))
        self._table[:, 4] = 0
        if b is not None and a.dtype == b.dtype == torch.bfloat16:
            words = (x.reshape(-1).view(torch.int16).numpy().view(np.uint16) for x in (a, b))
            scan_bf16(*words, self._table, self._limits, self.counts, ends, sums)
        else:
            values = a if b is None else a.to(torch.float32) - b.to(torch.float32)
            flat = values.reshape(-1).numpy()
            scan_float(flat, self._table, self._limits, self.counts, ends, sums)
            sums[0, 0] = 0.0 if b is None else squares_of(b)
        self._learn()
        return self._piece(a.numel(), ends, sums)

    def by_bucket(self) -> Iterator[tuple[int, np.ndarray]]:
        """(bucket, counts by lower bits, int64) of every bucket of the runs."""
        for k, (first, last) in enumerate(self.runs):
            usual = int(self._table[k, 2])
            for row, bucket in enumerate(range(first, last + 1), self._rows[k]):
                counts = self.counts[row].astype(np.int64)
                if usual >> 16 == bucket:
                    counts[usual & 0xFFFF] += self._usual[k]
                yield bucket, counts

    def _learn(self) -> None:
        """Count those that were usual; the first piece that has any tells what is usual."""
        for k, (first, last) in enumerate(self.runs):
            if self._table[k, 2] >= 0:
                self._usual[k] += self._table[k, 4]
                continue
            found = self.counts[self._rows[k] : self._rows[k] + last - first + 1]
            if found.any():
                self._table[k, 2] = (first << 16) + int(found.argmax())

    def _piece(self, numel: int, ends: np.ndarray, sums: np.ndarray) -> Piece:
        extremes = Extremes(*ends.tolist())
        above = [Above() for _ in sums]
        if extremes.largest < INFINITY:
            above[0].add(numel, *sums[0, 1:])
            for found, row in zip(above[1:], sums[1:], strict=True):
                found.add(*row)
        return Piece(numel, extremes, above, float(sums[0, 0]))


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
    """Larger pieces where no product is formed, whose bits would depend on them."""
    whole = models.has_values(pair.a) and models.has_values(pair.b)
    for name in names:
        for rows in tiles(models.shapes[name], _PIECE if whole else TILE_ENTRIES):
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
        tile = Tile(self._models, *piece)
        difference = tile.difference(self._pair.a, self._pair.b)
        if difference is None:
            return
        found = self._scanner().scan(difference.a, difference.b)
        b = self._pair.b
        if self._models.reference(b) != b or difference.b is not tile.values(b):
            # What was subtracted is a task vector, not the weights to be relative to.
            found.squares = sum(squares_of(rows) for _, rows in tile.references([self._pair]))
        if found.extremes.largest >= INFINITY:
            raise NonFiniteError(
                f"{self._pair.name}: a difference is not finite",
                found=piece[0],
                expected="numbers",
            )
        with self._lock:
            self._found.append((piece[0], found))

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
