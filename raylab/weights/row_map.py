"""Where the rows of matrices with a row for every token come from.

Model: members have a matrix each. A row of the output is, of a member, a row of its own matrix; or
FILLED, with the mean of rows of some members; or PADDING, where no token has it.
Invariant: every row that a member has FILLED has its sources, which may be none: then it is zero.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from raylab.weights.safetensors_reader import Shape

Numbers = np.ndarray[tuple[int, ...], np.dtype[np.int64]]
Source = tuple[int, int]
"""A member, and a row of its own matrix."""
FILLED, PADDING = -1, -2


@dataclass(frozen=True)
class RowMap:
    """own: for each member, (rows,): the row of its own matrix, FILLED or PADDING. fills: the
    sources of each row that a member has FILLED."""

    own: tuple[Numbers, ...]
    fills: Mapping[int, tuple[Source, ...]]

    @property
    def rows(self) -> int:
        """How many rows the output has."""
        return len(self.own[0])

    def shape(self, shape: Shape) -> Shape:
        """The output's shape of a matrix, or of a vector, with a row for every token."""
        return (self.rows, *shape[1:])


def runs(rows: Numbers) -> Iterator[tuple[int, int, int]]:
    """(place, first row, count) of every run of consecutive rows; negative ones are left out."""
    if not len(rows):
        return
    breaks = np.flatnonzero((np.diff(rows) != 1) | (rows[:-1] < 0)) + 1
    for start, stop in zip([0, *breaks], [*breaks, len(rows)], strict=True):
        first = int(rows[start])
        if first >= 0:
            yield int(start), first, int(stop - start)
