"""Merges pieces: the steps of a method over some rows of one tensor, by many threads.

Model: a thread takes the next piece of the output, fills in each model's rows, trims or drops,
combines and rounds them, and writes them at their place. A tensor that no model changes is copied
as bytes. Nothing merged is ever held: an adapter's rows are made of its factors.
Invariant: the bits depend on the request and the models alone, not on pieces or threads: every
step treats entries one by one. NaN, infinity and overflow raise, wherever they come from.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Sequence
from typing import Protocol

import torch

from raylab.merge import kernels
from raylab.merge.inputs import MergePlan
from raylab.merge.model_rows import ModelRows, pieces_of, refuse
from raylab.merge.reference_steps import kept_below, stream_key
from raylab.merge.trim import Trims
from raylab.weights.row_tiles import Piece, columns_of, in_threads
from raylab.weights.safetensors_file import DTYPE_NAMES

Kept = Counter[tuple[int, str]]
"""How many entries of a model stayed in a tensor and are not zero."""


class RowsWriter(Protocol):
    """Where merged rows go; any thread may write."""

    def write(self, tensor: str, offset: int, data: memoryview) -> None:
        """Put `data` at byte `offset` of the tensor."""


def merge_tiles(plan: MergePlan, trims: Sequence[Trims], writer: RowsWriter, threads: int) -> Kept:
    """Merge every tensor of the plan into `writer`. Raises NonFiniteError, StoreError.

    trims: each model's thresholds by tensor, where the method trims.
    """
    work = _Work(plan, trims, writer)
    in_threads(pieces_of(plan, plan.shapes), work.do, threads)
    return work.kept


class _Work:
    """Merges one piece after another; shared by threads."""

    def __init__(self, plan: MergePlan, trims: Sequence[Trims], writer: RowsWriter) -> None:
        self._plan, self._trims, self._writer = plan, trims, writer
        self._rows, self._lock = ModelRows(plan), threading.Lock()
        self.kept: Kept = Counter()

    def do(self, piece: Piece) -> None:
        """Merge or copy the rows of one piece."""
        models = self._plan.models_of(piece[0])
        base = self._rows.base(piece)
        if models:
            self._merge(piece, base, models)
        else:
            refuse(kernels.non_finite(base), f"the base model's {piece[0]}")
            self._write(piece, self._plan.template.raw(*piece).reshape(-1))

    def _merge(self, piece: Piece, base: torch.Tensor, models: Sequence[int]) -> None:
        request, dtype = self._plan.request, self._plan.dtypes[piece[0]]
        rows = self._rows.take("rows", (len(models), *base.shape), torch.float32)
        for row, i in zip(rows, models, strict=True):
            kept = self._keep(self._rows.fill(row, i, piece), i, piece)
            with self._lock:
                self.kept[i, piece[0]] += kept
        merged = self._rows.take("merged", base.shape, torch.float64)
        self._combine(rows, models, merged)
        if request.row.of == "values":
            base.zero_()
        bad = kernels.move(base, merged, request.scaling, dtype)
        refuse(bad, f"the merged {piece[0]}, as {DTYPE_NAMES[dtype]},")
        self._write(piece, self._rows.take("moved", base.shape, dtype).copy_(base))

    def _keep(self, row: torch.Tensor, model: int, piece: Piece) -> int:
        request, (name, start, _) = self._plan.request, piece
        if request.row.keeps == "largest":
            return kernels.trim(row, self._trims[model][name].threshold)
        if request.row.keeps == "random":
            assert request.seed is not None
            key = stream_key(request.seed, model, name)
            first = start * columns_of(self._plan.shapes[name])
            return kernels.drop(row, key, first, kept_below(request.inputs[model].density))
        return int(torch.count_nonzero(row))

    def _combine(self, rows: torch.Tensor, models: Sequence[int], merged: torch.Tensor) -> None:
        request = self._plan.request
        weights = [request.inputs[i].weight for i in models]
        factors = weights
        if request.row.keeps == "random":
            factors = [request.inputs[i].weight / request.inputs[i].density for i in models]
        if request.row.elects:
            kernels.elect(rows, factors, weights, request.normalize, merged)
            return
        divisor = sum(item.weight for item in request.inputs) if request.normalize else 1.0
        kernels.add(rows, factors, divisor, merged)

    def _write(self, piece: Piece, rows: torch.Tensor) -> None:
        name, start, _ = piece
        offset = start * columns_of(self._plan.shapes[name]) * rows.element_size()
        self._writer.write(name, offset, rows.view(torch.uint8).numpy().data)
