"""One pass over tiles on a GPU: what `raylab.reduce.shard` does with the CPU's loops.

Model: tiles are read, moved and added up by a few threads (see `raylab.reduce.gpu`). Accumulators
of all comparisons, squares and products stay on the GPU; the host sees them once, at the end of
the shard. An error in the numbers is therefore found at the end as well.
Invariant: results have the form of the CPU's, and of checkpoints the same integers.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Sequence

import numpy as np
import torch

from raylab.errors import NonFiniteError
from raylab.reduce.differences import Difference, LowRankDifference
from raylab.reduce.gpu import Gpu
from raylab.reduce.gpu_sums import Sums
from raylab.reduce.histogram import BUCKETS, INFINITY, bits_below
from raylab.reduce.masks import Limits
from raylab.reduce.measured import Buckets, Measured
from raylab.reduce.relating import Relating
from raylab.reduce.row_block import Models, Pair, Tile
from raylab.weights.device import gpu_memory
from raylab.weights.row_tiles import Piece, in_threads, tiles

_SAMPLE_SHARE = 128
"""One of so many rows of a tile, the first ones, is in the sample."""


class GpuPass:
    """One pass over the tensors `names`: sums by comparison, filled tile by tile."""

    def __init__(
        self,
        models: Models,
        gpu: Gpu,
        pairs: Sequence[Pair],
        names: Sequence[str],
        buckets: Buckets,
        limits: Limits,
    ) -> None:
        """Go through all tiles."""
        self._models, self._gpu, self._pairs = models, gpu, pairs
        self._numbers = {name: number for number, name in enumerate(names)}
        tolerance = bits_below(models.tolerance)
        self.sums = {
            pair.name: Sums.empty(gpu.device, buckets.get(pair.name, ()), len(names), tolerance)
            for pair in pairs
        }
        self._squares: dict[tuple[str, str], list[torch.Tensor]] = {}
        self._relating = Relating(models, names, limits, gpu.threads(len(models.sides)))
        self._non_finite, self._lock = 0, threading.Lock()
        _for_tiles(models, gpu, names, self._take)

    def _take(self, piece: Piece) -> None:
        name, start, stop = piece
        tile, tensor = Tile(self._models, *piece), self._numbers[name]
        for pair in self._pairs:
            difference = tile.difference(pair.a, pair.b)
            if difference is None:
                continue
            with self._lock:
                self._gpu.add(*_operands(difference), self.sums[pair.name], tensor)
                self._non_finite += difference.left_out
        squares = {
            key: values.to(torch.float64).square().sum()
            for key, values in tile.references(self._pairs)
        }
        self._relating.add(tile, name, start, stop)
        with self._lock:
            for key, part in squares.items():
                self._squares.setdefault((key, name), []).append(part)

    def result(self) -> Measured:
        """All sums, on the host. Raises NonFiniteError."""
        found, names = Measured(non_finite=self._non_finite), tuple(self._numbers)
        for pair, sums in self.sums.items():
            whole = sums.magnitudes()
            for tensor, norms, extremes in sums.by_tensor():
                name = names[tensor]
                if extremes.largest >= INFINITY:
                    raise NonFiniteError(
                        f"{pair}: a difference is not finite", found=name, expected="numbers"
                    )
                found.norms.setdefault(pair, {})[name] = norms
                whole.norms += norms
                whole.extremes += extremes
            if pair in found.norms:
                found.magnitudes[pair] = whole
        for (key, name), parts in self._squares.items():
            squares = torch.stack(parts).tolist()
            found.squares.setdefault(key, {})[name] = math.fsum(squares)
        found.relation = self._relating.relation()
        return found


def _operands(
    difference: Difference | LowRankDifference,
) -> tuple[torch.Tensor, torch.Tensor | None]:
    assert isinstance(difference, Difference), "products are formed on a GPU"
    return difference.a, difference.b


def _for_tiles(
    models: Models, gpu: Gpu, names: Sequence[str], work: Callable[[Piece], None]
) -> None:
    """Do `work` for every tile of the tensors `names`, some at a time. Raises DeviceMemoryError."""
    count = len(models.sides)
    entries = gpu.tile_entries(count)

    def one(piece: Piece) -> None:
        with gpu.tile():
            work(piece)

    pieces = [(n, *rows) for n in names for rows in tiles(models.shapes[n], entries)]
    taken = f" (tiles of {entries:,} entries of {count} models, and 1 MB for each comparison)"
    todo = "end what else uses the GPU, or take --device cpu"
    with gpu_memory("reduce", todo=todo, taken=taken):
        in_threads(pieces, one, gpu.threads(count))


def sampled(
    models: Models, gpu: Gpu, pairs: Sequence[Pair], names: Sequence[str]
) -> dict[str, np.ndarray]:
    """How many entries of a sample each bucket holds, and how many of them are short, int64 (2,
    BUCKETS), by comparison."""
    counts = {
        pair.name: torch.zeros(2 * BUCKETS, dtype=torch.int64, device=gpu.device) for pair in pairs
    }
    lock = threading.Lock()

    def take(piece: Piece) -> None:
        name, start, stop = piece
        if len(models.shapes[name]) > 1:
            stop = start + math.ceil((stop - start) / _SAMPLE_SHARE)
        tile = Tile(models, name, start, stop)
        for pair in pairs:
            places = _places(tile.difference(pair.a, pair.b), gpu.device)
            with lock:
                counts[pair.name].scatter_add_(0, places, torch.ones_like(places))

    _for_tiles(models, gpu, names, take)
    found = {}
    for name, both in counts.items():
        long, short = both.view(2, BUCKETS).cpu().numpy()
        found[name] = np.stack([long + short, short])
    return found


def _places(
    difference: Difference | LowRankDifference | None, device: torch.device
) -> torch.Tensor:
    """The bucket of each entry, those of short ones being counted apart."""
    if difference is None:
        return torch.zeros(0, dtype=torch.int64, device=device)
    values = difference.values().reshape(-1)
    bits = (values.view(torch.int32) & 0x7FFFFFFF).to(torch.int64)
    return (bits >> 16) + BUCKETS * ((bits & 0xFFFF) == 0)
