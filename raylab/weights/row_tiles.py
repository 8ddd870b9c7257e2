"""Tiles of rows, and the threads that share them.

Model: a tile is a run of full-width rows of one tensor, of about 2^18 entries, whose temporaries
stay near the core (adapters took 1.3 times as long in tiles of 2^20). Threads take tiles; a
matrix product takes one thread.
Invariant: the tiles of a tensor depend on its shape alone. The bits of a matrix product may depend
on the number of its threads (seen with MKL) and on the width of a tile, so both are fixed.
"""

from __future__ import annotations

import itertools
import math
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from types import TracebackType
from typing import Generic, Self, TypeVar

from raylab.weights.safetensors_reader import Shape

TILE_ENTRIES = 1 << 18

Piece = tuple[str, int, int]
"""A tensor and the bounds of some of its rows."""
Item = TypeVar("Item")
Result = TypeVar("Result")


def tiles(shape: Shape, entries: int | None = None) -> Iterator[tuple[int, int]]:
    """(start, stop) of the row tiles of a tensor, of about `entries` (TILE_ENTRIES) each."""
    rows = shape[0] if len(shape) > 1 else 1
    step = max(1, (entries or TILE_ENTRIES) // max(1, columns_of(shape)))
    for start in range(0, rows, step):
        yield start, min(rows, start + step)


def columns_of(shape: Shape) -> int:
    """Entries of a row; a vector is one row."""
    return math.prod(shape[1:] if len(shape) > 1 else shape)


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """Within, a matrix product of this Python thread takes one thread."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


class Started(Generic[Item, Result]):
    """Work on pieces that threads are at."""

    def __init__(self, pieces: Sequence[Item], futures: Sequence[Future[Result]]) -> None:
        """One future for each piece."""
        self._pieces, self._futures = pieces, futures

    def wait(self, done: Callable[[Item], None] = lambda piece: None) -> list[Result]:
        """What the work says of each piece, in their order; `done` hears, in this thread, of each.
        An error is that of the first piece that has one; no piece is at work when it is raised."""
        results = []
        try:
            for piece, future in zip(self._pieces, self._futures, strict=True):
                results.append(future.result())
                done(piece)
        finally:
            self.cancel()
        return results

    def cancel(self) -> None:
        """Take back what no thread is at yet, and wait for the rest."""
        for future in self._futures:
            future.cancel()
        wait(self._futures)


class Workers:
    """Python threads of one BLAS thread each, which do one run of work after another."""

    def __init__(self, threads: int) -> None:
        """Start no thread before there is work. Whatever forms products by torch in these threads
        has imported it by then."""
        self._pool = ThreadPoolExecutor(threads, initializer=_take_one_blas_thread)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._pool.shutdown(cancel_futures=True)

    def start(
        self, pieces: Sequence[Item], work: Callable[[Item], Result]
    ) -> Started[Item, Result]:
        """Begin to do `work` for every piece, after all that was begun before."""
        return Started(pieces, [self._pool.submit(work, piece) for piece in pieces])

    def each(
        self,
        pieces: Sequence[Item],
        work: Callable[[Item], None],
        done: Callable[[Item], None] = lambda piece: None,
    ) -> None:
        """Do `work` for every piece; see `Started.wait`."""
        self.start(pieces, work).wait(done)


def _take_one_blas_thread() -> None:
    """torch counts BLAS threads for each Python thread anew; checkpoints do not need torch."""
    if "torch" in sys.modules:
        # Another thread may be at it: an import waits for that.
        import torch

        torch.set_num_threads(1)


def reading_ahead(
    pieces: Sequence[Item],
    begin: Callable[[Item], None],
    count: int,
    work: Callable[[Item], Result],
) -> Callable[[Item], Result]:
    """`work` of each of `pieces`, which are taken in about their order; first, `begin` begins to
    read those up to `count` places behind, each once."""
    behind, lock = iter(pieces), threading.Lock()
    places = {piece: place for place, piece in enumerate(pieces)}
    asked = 0

    def done(piece: Item) -> Result:
        nonlocal asked
        with lock:
            wanted = max(0, places[piece] + count - asked)
            asked += wanted
            following = list(itertools.islice(behind, wanted))
        for each in following:
            begin(each)
        return work(piece)

    return done


def in_threads(pieces: Sequence[Item], work: Callable[[Item], None], threads: int) -> None:
    """Do `work` for every piece, in so many Python threads of one BLAS thread each.

    A single thread is one of its own as well: the main thread's heap is given back to the system
    and taken again with every large temporary, which doubled the time of adapters.
    """
    with Workers(threads) as workers:
        workers.each(pieces, work)
