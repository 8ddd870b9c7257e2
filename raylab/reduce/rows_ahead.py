"""The rows of checkpoints that exceed memory, asked for ahead of the pieces that read them.

Model: a pass takes pieces of tensors in their order. Where the open files do not fit in memory
(`raylab.weights.read_ahead`), each thread that takes a piece first has the disk read the rows of
pieces behind it. Files that fit are mapped, and in the page cache after they were read once.
Invariant: only rows are asked for that the piece reads: of checkpoints, as their files have them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from raylab.reduce.row_block import BASE, Models, Pair
from raylab.weights.read_ahead import OPEN_FILES
from raylab.weights.row_tiles import Piece, columns_of, reading_ahead

_AHEAD = 1 << 27
"""Bytes of all models, in bfloat16."""
Item = TypeVar("Item")
Run = tuple[str, tuple[tuple[int, int], ...]]
"""A tensor, and the bounds of neighbouring tiles of it that are read at once."""


def piece_of(run: Run) -> Piece:
    """The rows that a run reads."""
    name, bounds = run
    return name, bounds[0][0], bounds[-1][1]


def rows_ahead(
    models: Models,
    pairs: Sequence[Pair],
    items: Sequence[Item],
    where: Callable[[Item], Piece],
    work: Callable[[Item], None],
) -> Callable[[Item], None]:
    """`work` of each of `items`, which read the rows that `where` says."""
    if models.gpu or models.skip_non_finite or not items or not OPEN_FILES.exceed_memory():
        return work
    keys = list(dict.fromkeys(key for pair in pairs for key in (pair.a, pair.b)))
    sides = [models.base if key == BASE else models.sides[key] for key in keys]
    checkpoints = [(side, side.checkpoint) for side in sides if side and side.checkpoint]

    def begin(item: Item) -> None:
        name, start, stop = where(item)
        for side, checkpoint in checkpoints:
            if side.changes(name) and not side.is_tied(name):
                checkpoint.will_need(name, start, stop)

    most = max(_entries(models, where(item)) for item in items)
    count = _AHEAD // max(1, 2 * most * len(checkpoints))
    return reading_ahead(items, begin, max(2, count), work) if checkpoints else work


def _entries(models: Models, piece: Piece) -> int:
    name, start, stop = piece
    return (stop - start) * columns_of(models.shapes[name])
