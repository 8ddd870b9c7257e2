"""Merges pieces: some rows of one tensor, from the models' rows to bytes of the output.

Model: a thread reads each model's rows, trims or drops their entries, combines them, adds them to
the base, rounds, and writes. A tensor that no model changes is copied. What a step counts (entries
kept, entries that are not finite) comes to the host with the rows, at the end of the piece.
Invariant: the steps are those of `raylab.merge.steps`, on whichever device, in one order.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence

import torch

from raylab.merge.model_rows import ModelRows, refuse_non_finite
from raylab.merge.record import Kept
from raylab.merge.steps import Count, hash_limit, stream_key
from raylab.merge.trim import Trims
from raylab.weights.checkpoint_writer import CheckpointWriter
from raylab.weights.row_tiles import Piece, columns_of
from raylab.weights.safetensors_reader import DTYPE_NAMES


class Merger:
    """Merges one piece after another; threads share it. `kept` counts the entries that stayed."""

    def __init__(self, rows: ModelRows, trims: Sequence[Trims], writer: CheckpointWriter) -> None:
        self._rows, self._trims, self._writer = rows, trims, writer
        self._plan, self._steps = rows.plan, rows.backend.steps
        self._lock = threading.Lock()
        self.kept: Kept = Kept()

    def write(self, piece: Piece) -> None:
        """Merge or copy the rows of one piece. Raises NonFiniteError, StoreError."""
        name, start, _ = piece
        models = self._plan.models_of(name)
        rows = self._merged(piece, models) if models else self._copied(piece)
        self._writer.write_rows(name, start, rows)

    def _copied(self, piece: Piece) -> torch.Tensor:
        on_device = self._steps.count_non_finite(self._rows.base(piece))
        (count,) = self._rows.memory.numbers([on_device])
        refuse_non_finite(count, f"the base model's {piece[0]}")
        return self._rows.stored_base(piece)

    def _merged(self, piece: Piece, models: Sequence[int]) -> torch.Tensor:
        """The merged rows, (entries,) in the output's dtype, on the host."""
        rows, name, memory = self._rows, piece[0], self._rows.memory
        dtype, base = self._plan.dtypes[name], rows.base(piece)
        deltas = memory.buffer("rows", (len(models), *base.shape), torch.float32)
        each = list(zip(deltas, models, strict=True))
        non_finite = [rows.fill(delta, model, piece) for delta, model in each]
        kept = [self._keep(delta, model, piece) for delta, model in each]
        moves = memory.buffer("moves", base.shape, torch.float64)
        self._combine(name, deltas, models, moves)
        if self._plan.request.row.of == "values":
            base.zero_()
        overflows = self._steps.add_to_base(base, moves, self._plan.request.scaling, dtype)
        merged = memory.buffer("merged", base.shape, dtype).copy_(base)
        on_host = memory.to_host("merged", merged)
        *counts, overflow = memory.numbers([*non_finite, *kept, overflows])
        rows.check_finite(piece, models, counts[: len(models)])
        refuse_non_finite(overflow, f"the merged {name}, as {DTYPE_NAMES[dtype]},")
        with self._lock:
            for model, count in zip(models, counts[len(models) :], strict=True):
                self.kept[model, name] += count
        return on_host

    def _keep(self, delta: torch.Tensor, model: int, piece: Piece) -> Count:
        """Set the entries that the method does not keep to zero; how many are not zero."""
        request, (name, start, _) = self._plan.request, piece
        if request.row.keeps == "largest":
            return self._steps.trim(delta, self._trims[model][name].threshold)
        if request.row.keeps == "random":
            assert request.seed is not None
            key = stream_key(request.seed, model, name)
            first = start * columns_of(self._plan.shapes[name])
            limit = hash_limit(self._plan.settings.densities[model][name])
            return self._steps.drop(delta, key, first, limit)
        return self._steps.count_nonzero(delta)

    def _combine(
        self, name: str, deltas: torch.Tensor, models: Sequence[int], moves: torch.Tensor
    ) -> None:
        """Write what is added to the base, before lambda, into `moves`."""
        request, settings = self._plan.request, self._plan.settings
        weights = [settings.weights[model][name] for model in models]
        factors = weights
        if request.row.keeps == "random":
            factors = [
                w / settings.densities[i][name] for w, i in zip(weights, models, strict=True)
            ]
        if request.row.elects:
            self._steps.disjoint_merge(deltas, factors, weights, request.normalize, moves)
        else:
            # All zero: nothing is added, and nothing is divided by.
            divisor = sum(of_model[name] for of_model in settings.weights) or 1.0
            divisor = divisor if request.normalize else 1.0
            self._steps.weighted_sum(deltas, factors, divisor, moves)
