"""The precision audit: how much of a training is lost when its model is saved in few bits.

Model: a trial's training began from some weights (the base model's, or its parents', merged and
rounded) and moved them by the delta of its own adapter. Over the entries that this adapter
changes, with |.| the L2 norm and h(start) = dequantise(quantise(start)), rounded:

    e                          (merged - start) - delta, merged = round(start + delta)
    merged_error               |e| / |delta|
    merged_false_zeros         share of the entries with delta != 0 whose merged value is start's
    dequantized_error, dequantized_false_zeros
                               the same with h(start) in the place of start
    quantization_noise         |h(start) - start| / |delta|: how much louder quantisation is than
                               what training did

All is rounded to the base model's dtype, as the views `merged` and `dequantized` do it. l2 is
|delta|. Shares are null where delta is zero; the last three columns also where no quantisation
is given, or a layer keeps its weight transposed (Conv1D), which has no dequantized view. A model
without adapters, or without its base model's weights, has no rows.
Invariant: sums are float64, over pieces of tiles whose bounds depend on the tensor alone, in one
BLAS thread; sums of tiles, tensors and groups are math.fsum's, which is exact: the same bits for
any shards, threads and order. Results of shards are dictionaries of disjoint tensors:
`{**one, **other}` merges them.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import astuple, dataclass
from typing import Any

import torch

from raylab.errors import NonFiniteError
from raylab.reduce.chains import inner_products, pieces
from raylab.spec.study import Quantization
from raylab.store.references import ModelLocation
from raylab.weights import Checkpoint
from raylab.weights.adapter import Adapter
from raylab.weights.checkpoint import Weights
from raylab.weights.names import levels
from raylab.weights.quantized_base import HeldWeights, MergedWeights
from raylab.weights.row_tiles import one_blas_thread, tiles


@dataclass(frozen=True)
class AuditSums:
    """Counts of entries (int) and sums of squares (float64) over one tensor or a group."""

    numel: int
    nonzero: int
    delta: float
    merged_error: float
    merged_zeros: int
    dequantized_error: float | None = None
    dequantized_zeros: int | None = None
    noise: float | None = None


def audit_parts(
    place: ModelLocation,
    base: Checkpoint | None,
    names: Iterable[str],
    quantization: Quantization | None = None,
) -> dict[str, AuditSums]:
    """The sums of each tensor of `names` that the last adapter of `place` changes.

    Nothing without adapters, or without the weights `base`. `quantization` is that of the
    training. Raises ModelError, NonFiniteError (names the tensor).
    """
    if not place.adapters or base is None:
        return {}
    training = _Training(place, base, quantization)
    with one_blas_thread():
        return {name: training.sums(name) for name in names if name in training.shapes}


class _Training:
    """The last training of a place, its start being a base model with the parents merged in."""

    def __init__(
        self, place: ModelLocation, base: Checkpoint, quantization: Quantization | None
    ) -> None:
        parents: list[Adapter] = []
        for path in place.adapters[:-1]:
            parents.append(Adapter.open(path, MergedWeights(base, parents)))
        self._start = MergedWeights(base, parents)
        self._own = Adapter.open(place.adapters[-1], self._start)
        self.shapes = self._own.shapes
        self._held: Weights | None = None
        if quantization is not None and not self._own.conv1d:
            self._held = HeldWeights(self._start, quantization)

    def sums(self, name: str) -> AuditSums:
        found = _total([self._tile(name, *bounds) for bounds in tiles(self.shapes[name])])
        if not all(value is None or math.isfinite(value) for value in astuple(found)):
            raise NonFiniteError(f"the audit of {name} is not finite", expected="numbers")
        return found

    def _tile(self, name: str, first: int, last: int) -> AuditSums:
        delta = self._own.rows(name, first, last)
        start = self._start.raw(name, first, last)
        merged = self._own.merged(name, first, last, start)
        held: tuple[float, int, float] | tuple[()] = ()
        if self._held is not None:
            rows = self._held.raw(name, first, last)
            rounded = rows.to(start.dtype)
            trained = self._own.merged(name, first, last, rows).to(start.dtype)
            held = (*_loss(trained, rounded, delta), _distance(rounded, start))
        counts = delta.numel(), int(delta.count_nonzero())
        return AuditSums(*counts, _squares(delta), *_loss(merged, start, delta), *held)


def _loss(trained: torch.Tensor, start: torch.Tensor, delta: torch.Tensor) -> tuple[float, int]:
    """(sum of squares of e, false zeros) of one tile."""
    squares, zeros = 0.0, 0
    for after, before, wanted in pieces(trained, start, delta):
        moved = after.double() - before.double()
        error = moved - wanted
        squares += float(torch.dot(error, error))
        zeros += int(((moved == 0) & (wanted != 0)).count_nonzero())
    return squares, zeros


def _distance(one: torch.Tensor, other: torch.Tensor) -> float:
    """The sum of squares of their difference."""
    return _loss(one, other, torch.zeros_like(one))[0]


def _squares(values: torch.Tensor) -> float:
    return inner_products((values,), ((0, 0),))[0]


def _total(parts: Sequence[AuditSums]) -> AuditSums:
    """The sums of all `parts`; None where one of them has none."""
    return AuditSums(*map(_sum, zip(*map(astuple, parts), strict=True)))


def _sum(column: tuple[Any, ...]) -> Any:
    if None in column:
        return None
    return sum(column) if isinstance(column[0], int) else math.fsum(column)


def audit_rows(model: str, sums: Mapping[str, AuditSums]) -> list[dict[str, Any]]:
    """Rows of the table `audit` for the whole, every layer, module kind and tensor; or none."""
    return [
        {"model": model, "level": level, "key": key, **_row(_total([sums[n] for n in members]))}
        for level, key, members in levels(sums)
        if members
    ]


def _row(sums: AuditSums) -> dict[str, Any]:
    return {
        "numel": sums.numel,
        "l2": math.sqrt(sums.delta),
        "merged_error": _l2_ratio(sums.merged_error, sums.delta),
        "merged_false_zeros": _share(sums.merged_zeros, sums.nonzero),
        "dequantized_error": _l2_ratio(sums.dequantized_error, sums.delta),
        "dequantized_false_zeros": _share(sums.dequantized_zeros, sums.nonzero),
        "quantization_noise": _l2_ratio(sums.noise, sums.delta),
    }


def _l2_ratio(squares: float | None, of: float) -> float | None:
    """The ratio of two L2 norms, given their squares."""
    return math.sqrt(squares) / math.sqrt(of) if squares is not None and of > 0 else None


def _share(count: int | None, of: int) -> float | None:
    return count / of if count is not None and of > 0 else None
