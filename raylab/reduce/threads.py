"""Threads: how many a matrix product takes, and how tiles are shared among them.

Invariant: the bits of a matrix product may depend on the number of its threads (seen with MKL),
so every product of the reduction takes one; tiles are what threads share.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import torch

Piece = tuple[str, int, int]
"""A tensor and the bounds of some of its rows."""


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """Within, a matrix product of this Python thread takes one thread."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def in_threads(pieces: Sequence[Piece], work: Callable[[Piece], None], threads: int) -> None:
    """Do `work` for every piece, in so many Python threads of one BLAS thread each.

    A single thread is one of its own as well: the main thread's heap is given back to the system
    and taken again with every large temporary, which doubled the time of adapters.
    """
    # torch counts BLAS threads for each Python thread anew.
    with ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        for _ in pool.map(work, pieces):
            pass
