"""The rows of a merge's models, piece by piece.

Model: a piece is some rows of one tensor, and threads share the pieces. `ModelRows` fills a
thread's own memory with the base model's rows and the models': fresh memory for every piece would
cost more than the arithmetic on it.
Invariant: where an adapter has a part, pieces are the tiles of `raylab.weights.row_tiles`, so that
its rows, whose bits may depend on the bounds, are the same when thresholds are found, when they are
trimmed, and when models are compared. Between checkpoints bounds leave no trace, and larger pieces
cost less: those of 2^19 took 0.7 times as long as tiles, larger ones as long as these.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Iterable, Sequence

import torch

from raylab.errors import NonFiniteError
from raylab.merge.inputs import MergePlan
from raylab.merge.kernels import non_finite, subtract
from raylab.weights.row_tiles import TILE_ENTRIES, Piece, columns_of, tiles

_LARGE = 2 * TILE_ENTRIES


def pieces_of(plan: MergePlan, names: Iterable[str]) -> list[Piece]:
    """The pieces of the tensors `names`, in order."""
    return [(n, *rows) for n in names for rows in tiles(plan.shapes[n], _entries(plan, n))]


def _entries(plan: MergePlan, name: str) -> int:
    whole = all(plan.sides[model].has_values for model in plan.models_of(name))
    return _LARGE if whole else TILE_ENTRIES


class ModelRows(threading.local):
    """A thread's memory for rows, by what it is used for; it grows to the largest piece."""

    def __init__(self, plan: MergePlan) -> None:
        """Hold nothing yet."""
        self._plan = plan
        self._held: dict[tuple[str, torch.dtype], torch.Tensor] = {}

    def take(self, use: str, shape: Sequence[int], dtype: torch.dtype) -> torch.Tensor:
        """Memory of this shape, with anything in it, that is free until it is taken again."""
        needed = math.prod(shape)
        held = self._held.get((use, dtype))
        if held is None or held.numel() < needed:
            held = self._held[use, dtype] = torch.empty(needed, dtype=dtype)
        return held[:needed].view(*shape)

    def size(self, piece: Piece) -> int:
        """How many entries a piece has."""
        name, start, stop = piece
        return (stop - start) * columns_of(self._plan.shapes[name])

    def base(self, piece: Piece) -> torch.Tensor:
        """The base model's rows, float32 (entries,)."""
        raw = self._raw(piece)
        return self.take("base", raw.shape, torch.float32).copy_(raw)

    def fill(self, row: torch.Tensor, model: int, piece: Piece) -> torch.Tensor:
        """Set `row`, float32 (entries,), to the task vector or, for `linear`, to the values:
        those of an adapter are base + task vector, rounded to float32. Raises NonFiniteError.
        """
        values = self._plan.sides[model].values(*piece)
        if self._plan.request.row.of == "values" or values is None:
            bad = non_finite(self._read(row, values, model, piece))
        else:
            bad = subtract(values.reshape(-1), self._raw(piece), row)
        refuse(bad, f"{self._plan.request.inputs[model].model}: {piece[0]}")
        return row

    def _raw(self, piece: Piece) -> torch.Tensor:
        """The base model's rows, (entries,) in their dtype."""
        return self._plan.template.raw(*piece).reshape(-1)

    def _read(
        self, row: torch.Tensor, values: torch.Tensor | None, model: int, piece: Piece
    ) -> torch.Tensor:
        if values is not None:
            return row.copy_(values.reshape(-1))
        delta, of_values = self._plan.sides[model].delta(*piece), self._plan.request.row.of
        if delta is None:
            assert of_values == "values", "only models that change the tensor are asked"
            row.zero_()
        else:
            row.copy_(delta.reshape(-1))
        return row.add_(self._raw(piece)) if of_values == "values" else row


def refuse(count: int, what: str) -> None:
    """Raise NonFiniteError where `count` entries of `what` are not finite."""
    if count:
        raise NonFiniteError(
            f"{what} holds NaN or infinity, or overflows",
            found=f"{count} entries in one tile",
            expected="numbers",
        )
