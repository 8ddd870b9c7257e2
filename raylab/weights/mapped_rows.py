"""Matrices with a row for every token, their rows in another order, and rows that are filled.

Model: members are a template and models, each with its own matrix of one name; member 0 is the
template. A row of the output is, of a member, a row of its own matrix (`own`); or filled: the mean
of rows of some members (`fills`), which is zero where there are none; or, of no token, the mean of
all the member's rows of tokens. All other tensors are what they are.
Invariant: a row that is copied keeps its value; a mean is the float64 mean in the members' order,
rounded once to float32. Rows depend on the tensor, its map and their bounds alone. The task vector
of an adapter is its own delta where its row and the template's have one number, else the difference
of both values, float32.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from threading import Lock
from typing import TYPE_CHECKING

import numpy as np

from raylab.weights.checkpoint import Checkpoint, StoredWeights
from raylab.weights.model_view import ModelView
from raylab.weights.row_map import FILLED, PADDING, Numbers, RowMap, runs
from raylab.weights.row_tiles import columns_of, tiles
from raylab.weights.safetensors_reader import Rows, Shape

if TYPE_CHECKING:
    import torch

    from raylab.weights.adapter import Adapter
    from raylab.weights.adapter_parts import Factors

IsMapped = Callable[[str], bool]
"""Whether a tensor of this name has a row for every token."""


class MappedRows:
    """The values of all members under a map. Safe in any number of threads."""

    def __init__(self, row_map: RowMap, template: Checkpoint, models: Sequence[ModelView]) -> None:
        """Read nothing yet."""
        self.map, self._template, self._models = row_map, template, tuple(models)
        self._means: dict[tuple[int, str], Rows] = {}
        self._lock = Lock()

    def values(self, member: int, name: str, start: int, stop: int) -> Rows:
        """Rows [start, stop) of the output's tensor, 2-D, float32; a vector is one row."""
        if self._is_vector(name):
            return self._rows(member, name, 0, self.map.rows).reshape(1, -1)
        return self._rows(member, name, start, stop)

    def delta(self, member: int, name: str, start: int, stop: int) -> Rows:
        """The same rows of the task vector of an adapter."""
        if self._is_vector(name):
            return self.values(member, name, 0, 1) - self.values(0, name, 0, 1)
        mine, theirs = (self.map.own[i][start:stop] for i in (member, 0))
        own = np.where(mine == theirs, mine, FILLED)
        moved = self._zeros(name, stop - start)
        for at, first, count in runs(own):
            rows = self._models[member - 1].delta(name, first, first + count)
            if rows is not None:
                moved[at : at + count] = rows.numpy()
        for at in np.flatnonzero((own < 0) & ((mine != FILLED) | (theirs != FILLED))).tolist():
            row = start + at
            there, base = (self._rows(i, name, row, row + 1)[0] for i in (member, 0))
            moved[at] = there - base
        return moved

    def _rows(self, member: int, name: str, start: int, stop: int) -> Rows:
        own = self.map.own[member][start:stop]
        found = self._zeros(name, stop - start)
        self._copy(member, name, own, found)
        for at in np.flatnonzero(own == FILLED).tolist():
            found[at] = self._filled(name, start + at)
        for at in np.flatnonzero(own == PADDING).tolist():
            found[at] = self._mean(member, name)
        return found

    def _copy(self, member: int, name: str, own: Numbers, into: Rows) -> None:
        """Copy the rows `own` of a member's matrix, those that are none excepted."""
        mapped_file = self._models[member - 1].checkpoint if member else self._template
        if self._is_vector(name) or mapped_file is None or mapped_file.tied:
            for at, first, count in runs(own):
                into[at : at + count] = self._own(member, name, first, first + count)
            return
        places = np.flatnonzero(own >= 0)
        if len(places):
            first, last = int(own[places].min()), int(own.max())
            rows = mapped_file.stored(name, first, last + 1)  # Not read before it is indexed.
            into[places] = _widened(rows[own[places] - first])

    def _own(self, member: int, name: str, start: int, stop: int) -> Rows:
        """Rows of a member's own matrix, float32; a vector is a column."""
        if self._is_vector(name):
            return self._whole(member, name, 0, 1).reshape(-1, 1)[start:stop]
        return self._whole(member, name, start, stop)

    def _whole(self, member: int, name: str, start: int, stop: int) -> Rows:
        model = self._models[member - 1] if member else None
        if model is not None and model.is_checkpoint:
            return _widened(model.stored(name, start, stop))
        rows = _widened(self._template.stored(name, start, stop))
        delta = None if model is None else model.delta(name, start, stop)
        return rows if delta is None else rows + delta.numpy()

    def _filled(self, name: str, row: int) -> Rows:
        sources = self.map.fills[row]
        found = [self._own(member, name, at, at + 1)[0] for member, at in sources]
        total = np.zeros(self._width(name))
        for values in found:
            total += values
        return (total / max(1, len(found))).astype(np.float32)

    def _mean(self, member: int, name: str) -> Rows:
        """The mean of the rows of tokens, float32 (columns,)."""
        with self._lock:
            known = self._means.get((member, name))
            if known is None:
                known = self._means[member, name] = self._mean_of_tokens(member, name)
        return known

    def _mean_of_tokens(self, member: int, name: str) -> Rows:
        is_token = self.map.own[member] != PADDING
        total = np.zeros(self._width(name))
        for start, stop in tiles((self.map.rows, self._width(name))):
            kept = is_token[start:stop]
            if kept.all():
                total += self._rows(member, name, start, stop).sum(axis=0, dtype=np.float64)
                continue
            for row in (start + np.flatnonzero(kept)).tolist():
                total += self._rows(member, name, row, row + 1)[0]
        return (total / max(1, int(is_token.sum()))).astype(np.float32)

    def _zeros(self, name: str, rows: int) -> Rows:
        return np.zeros((rows, self._width(name)), np.float32)

    def _width(self, name: str) -> int:
        return 1 if self._is_vector(name) else columns_of(self._shape(name))

    def _shape(self, name: str) -> Shape:
        return self._template.shapes[self._template.stored_name(name) or name]

    def _is_vector(self, name: str) -> bool:
        return len(self._shape(name)) == 1


def _widened(rows: Rows) -> Rows:
    """float32 of rows as a file holds them, uint16 being bfloat16."""
    if rows.dtype == np.uint16:
        return (rows.astype(np.uint32) << 16).view(np.float32)
    return rows.astype(np.float32)


class MappedTemplate:
    """The template's weights under a map: its matrices of tokens are float32."""

    def __init__(self, template: Checkpoint, mapped: MappedRows, is_mapped: IsMapped) -> None:
        """Read nothing yet."""
        self._template, self._mapped, self._is_mapped = template, mapped, is_mapped
        self.stored_name, self.is_alias = template.stored_name, template.is_alias
        self.names_in_memory = template.names_in_memory
        self.shapes: Mapping[str, Shape] = _mapped_shapes(template.shapes, mapped.map, is_mapped)

    def dtype(self, name: str) -> str:
        """The dtype of a parameter's rows."""
        return "F32" if self._is_mapped(name) else self._template.dtype(name)

    def stored(self, name: str, start: int, stop: int) -> Rows:
        """Rows [start, stop) as `StoredWeights.stored`."""
        if self._is_mapped(name):
            return self._mapped.values(0, name, start, stop)
        return self._template.stored(name, start, stop)

    def raw(self, name: str, start: int, stop: int) -> torch.Tensor:
        """`stored` as a tensor."""
        from raylab.weights.torch_rows import as_torch

        return as_torch(self.stored(name, start, stop))


class MappedModel:
    """One model under a map, as `ModelView` has it."""

    def __init__(
        self, model: ModelView, member: int, mapped: MappedRows, is_mapped: IsMapped
    ) -> None:
        """Read nothing yet."""
        self._model, self._member = model, member
        self._mapped, self._is_mapped = mapped, is_mapped
        self._has_other_rows = not np.array_equal(mapped.map.own[member], mapped.map.own[0])
        self.shapes: Mapping[str, Shape] = _mapped_shapes(model.shapes, mapped.map, is_mapped)

    @property
    def adapters(self) -> tuple[Adapter, ...]:
        """Those that it is made of, the oldest first."""
        return self._model.adapters

    @property
    def checkpoint(self) -> Checkpoint | None:
        """None: its rows are no longer those of files."""
        return None

    @property
    def has_values(self) -> bool:
        """Whether it has weights of its own."""
        return self._model.has_values

    @property
    def is_checkpoint(self) -> bool:
        """Whether it has every tensor."""
        return self._model.is_checkpoint

    def changes(self, name: str) -> bool:
        """Whether it has rows of its own of the parameter `name`."""
        return self._model.changes(name) or (self._is_mapped(name) and self._has_other_rows)

    def stored(self, name: str, start: int, stop: int) -> Rows:
        """Rows [start, stop) of a checkpoint."""
        if self._is_mapped(name):
            return self._mapped.values(self._member, name, start, stop)
        return self._model.stored(name, start, stop)

    def delta(self, name: str, start: int, stop: int) -> torch.Tensor | None:
        """Rows [start, stop) of its task vector, float32; None where it has none."""
        if not self._is_mapped(name):
            return self._model.delta(name, start, stop)
        if not self.changes(name):
            return None
        from raylab.weights.torch_rows import as_torch

        return as_torch(self._mapped.delta(self._member, name, start, stop))

    def plain_factors(self, name: str) -> tuple[Factors, ...]:
        """The factors whose products add up to its task vector; none where it is something else."""
        return () if self._is_mapped(name) else self._model.plain_factors(name)


def _mapped_shapes(
    shapes: Mapping[str, Shape], row_map: RowMap, is_mapped: IsMapped
) -> dict[str, Shape]:
    return {n: row_map.shape(shape) if is_mapped(n) else shape for n, shape in shapes.items()}


def mapped(
    row_map: RowMap, template: Checkpoint, models: Sequence[ModelView], is_mapped: IsMapped
) -> tuple[StoredWeights, tuple[ModelView, ...]]:
    """The template and the models with their rows of tokens under `row_map`."""
    rows = MappedRows(row_map, template, models)
    views = tuple(MappedModel(m, i, rows, is_mapped) for i, m in enumerate(models, 1))
    return MappedTemplate(template, rows, is_mapped), views
