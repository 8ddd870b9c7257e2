"""The rows of a merge's models, read piece by piece to where the arithmetic runs.

Model: threads share the pieces. Each reads rows into memory that it uses again: fresh memory for
every piece costs more than the arithmetic on it. Rows of checkpoints go to the device as they are
stored. Deltas of adapters are formed on the CPU, whatever the device, and go there as float32: the
bits of a matrix product depend on who forms it, and those of the CPU are what a merge has.
Invariant: rows have the same bits on every device.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

import numpy as np

from raylab.errors import NonFiniteError
from raylab.merge.backend import CPU, Backend
from raylab.merge.compiled_rows import Words
from raylab.merge.inputs import MergePlan
from raylab.merge.steps import Count, Entries
from raylab.merge.thread_memory import Memory
from raylab.weights.checkpoint import Checkpoint
from raylab.weights.row_tiles import Piece, columns_of, reading_ahead

_AHEAD = 64
"""Pieces, on a CPU of about 1 MB in bfloat16 for each model."""


class ModelRows(threading.local):
    """Reads the rows of pieces into a thread's own memory, which grows to the largest piece."""

    def __init__(self, plan: MergePlan, backend: Backend) -> None:
        """Hold no memory yet."""
        self.plan, self.backend = plan, backend
        self._memory: Memory | None = None
        self._base: tuple[Piece, Entries] | None = None

    @property
    def memory(self) -> Memory:
        """The calling thread's."""
        if self._memory is None:
            self._memory = self.backend.memory()
        return self._memory

    def pieces(self, names: Sequence[str]) -> list[Piece]:
        """The pieces of the tensors `names`, in order."""
        return self.plan.pieces(names, self.backend.entries)

    def size(self, piece: Piece) -> int:
        """How many entries a piece has."""
        name, start, stop = piece
        return (stop - start) * columns_of(self.plan.shapes[name])

    def base(self, piece: Piece) -> tuple[Entries, Count]:
        """The base model's rows, float32 (entries,) on the device; how many are not finite."""
        raw = self._raw_base(piece)
        base = self.memory.buffer("base", raw.shape, "F32")
        return base, self.backend.steps.widen(raw, base)

    def will_need(self, piece: Piece) -> None:
        """Begin to read the piece of every checkpoint that a merge of it reads, and no more than
        this: where rows far apart are asked for, the system reads some MB around each."""
        name, start, stop = piece
        for checkpoint, tensor in self._read_for(name, self.plan.models_of(name)):
            if checkpoint is not None:
                checkpoint.will_need(tensor, start, stop)

    def _read_for(self, name: str, models: Sequence[int]) -> list[tuple[Checkpoint | None, str]]:
        """By the base and each of `models`: the checkpoint whose rows it has of the output's tensor
        `name`, None where its rows are made, and the tensor there."""
        plan, (model, tensor) = self.plan, self.plan.arrangement[name].base
        base = plan.template if model is None else plan.models[model].checkpoint
        of_base = (base if isinstance(base, Checkpoint) else None, tensor)
        sources = plan.arrangement[name].sources
        return [of_base, *((plan.models[i].checkpoint, sources[i]) for i in models)]

    def reading_ahead(
        self, pieces: Sequence[Piece], work: Callable[[Piece], None]
    ) -> Callable[[Piece], None]:
        """`work` of each of `pieces`, which has the disk read some of the pieces behind it."""
        return reading_ahead(pieces, self.will_need, _AHEAD, work)

    def stored_base(self, piece: Piece) -> np.ndarray:
        """The base model's rows on the host, (entries,) in their dtype; not to be written to."""
        return self.plan.base_rows(piece).reshape(-1)

    def _raw_base(self, piece: Piece) -> Entries:
        """`stored_base` on the device; it goes there once for all models of a piece."""
        if self._base is None or self._base[0] != piece:
            self._base = piece, self.memory.to_device("raw base", self.stored_base(piece))
        return self._base[1]

    def fill(self, row: Entries, model: int, piece: Piece) -> Count:
        """Set `row`, float32 (entries,) on the device, to the task vector or, where the method
        is of values, to these: those of an adapter are base + task vector, rounded to float32.
        Returns how many entries are not finite.
        """
        plan, viewed, steps = self.plan, self.plan.models[model], self.backend.steps
        source = plan.source_of(model, piece)
        if viewed.is_checkpoint:
            own = self._moved(model, viewed.stored(*source))
            if plan.request.of_values:
                return steps.widen(own, row)
            return steps.subtract(own, self._raw_base(piece), row)
        delta = viewed.delta(*source)
        if delta is None:
            row[:] = 0
        else:
            steps.widen(self._moved(model, delta.numpy()), row)
        start = plan.own_base_rows(model, piece)
        if start is not None:
            steps.add(row, self.memory.to_device(f"own base of {model}", start.reshape(-1)))
        if plan.request.of_values and start is None:
            return steps.add(row, self._raw_base(piece))
        if start is not None and not plan.request.of_values:
            base, _ = self.base(piece)
            row -= base
        return steps.count_non_finite(row)

    def words(self, piece: Piece) -> Words | None:
        """The rows of the base and of the models that change the tensor, as files have them; None
        where one is no bfloat16 or comes of an adapter, or where torch merges."""
        plan = self.plan
        models = plan.models_of(piece[0])
        if self.backend.steps is not CPU.steps or not all(
            plan.models[i].is_checkpoint for i in models
        ):
            return None
        read = self._read_for(piece[0], models)
        if any(own and own.dtype(tensor) != "BF16" for own, tensor in read):
            return None  # Rows that were read ahead are given once.
        base = self.stored_base(piece)
        own = [plan.models[i].stored(*plan.source_of(i, piece)).reshape(-1) for i in models]
        are_words = all(rows.dtype == np.uint16 for rows in (base, *own))
        return Words(base, own, plan.request.of_values) if are_words else None

    def _moved(self, model: int, rows: np.ndarray) -> Entries:
        return self.memory.to_device(f"rows of {model}", rows)

    def check_finite(self, piece: Piece, models: Sequence[int], counts: Sequence[int]) -> None:
        """Raise NonFiniteError where the rows of a model have `counts` entries that are none; it
        names the base model where these come from there."""
        if any(counts) and not self.plan.request.of_values:
            (of_base,) = self.memory.numbers([self.base(piece)[1]])
            refuse_non_finite(of_base, f"the base model's {piece[0]}")
        for model, count in zip(models, counts, strict=True):
            refuse_non_finite(count, f"{self.plan.request.inputs[model].model}: {piece[0]}")


def refuse_non_finite(count: int, rows: str) -> None:
    """Raise NonFiniteError where `count` entries of the rows so named are not finite."""
    if count:
        raise NonFiniteError(
            f"{rows} holds NaN or infinity, or overflows",
            found="entries that are not finite",
            expected="numbers",
        )
