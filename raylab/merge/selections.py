"""Rules of methods that select a tensor's entries by the rank of a number: arcee_fusion and sce.

Model: `raylab.merge.whole_tensors` defines both. A number is computed for each entry wherever it is
needed (an importance, a variance), and `raylab.merge.order_statistics` finds those of the ranks
that bound the selection.
Invariant: no number of an entry is held beyond its piece, but for the few near a bound.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from raylab.merge import compiled_tensors, fusion
from raylab.merge.compiled_blocks import Combining
from raylab.merge.directions import Array, Parameters
from raylab.merge.order_statistics import Values, values_at
from raylab.merge.tensor_rule import Measure, Passes, Rows, TensorRule


def _fusion_threshold(measured: Passes, _: Array, parameters: Parameters) -> Array:
    """The least importance that stays, then how far each row has moved."""
    del parameters
    moved = np.concatenate(measured(_row_moves))

    def filled(rows: Rows) -> Array:
        own = _of_rows(moved, rows)
        fusion.fill_importances(rows.models[0], rows.base, own, rows.width, rows.moves)
        return rows.moves

    return np.array([fusion.threshold(_passes(measured, filled)), *moved])


def _row_moves(rows: Rows) -> Array:
    return fusion.row_moves(rows.models[0], rows.base, rows.width)


def _of_rows(moved: Array, rows: Rows) -> Array:
    """The part of `moved` that belongs to these rows."""
    start, stop = rows.bounds
    each = rows.base.size // rows.width // (stop - start)
    return moved[start * each : stop * each]


def _fused(rows: Rows, found: Array | None) -> None:
    assert found is not None
    own = _of_rows(found[1:], rows)
    fusion.keep_important(rows.models[0], rows.base, own, rows.width, found[0], rows.moves)


def _selected(measured: Passes, _: Array, parameters: Parameters) -> Array:
    """The smallest variance that is selected, then the weight of each model."""
    share = float(parameters["select_topk"])
    least = _least_variance(measured, share) if share < 1 else 0.0

    def squares(rows: Rows) -> Array:
        sums = np.zeros(len(rows.models))
        compiled_tensors.sum_selected(rows.models, least, sums)
        return sums

    sums = np.sum(measured(squares), axis=0)
    total = sums.sum()
    return np.array([least, *(sums / total if total else sums)])


def _least_variance(measured: Passes, share: float) -> float:
    """The smallest of the `share` of the largest variances that are not zero, inf where these are
    none."""

    def filled(rows: Rows) -> Array:
        compiled_tensors.fill_variances(rows.models, rows.moves)
        return rows.moves

    def ranks(count: int, zeros: int) -> list[int]:
        kept = int(share * (count - zeros))
        return [count - kept] if kept else []

    (least,) = values_at(_passes(measured, filled), ranks) or [np.inf]
    return least


def _passes(measured: Passes, filled: Measure) -> Values:
    """Passes over the values that `filled` computes of each piece."""

    def values(say: Callable[[Array], Array], share: int = 1) -> list[Array]:
        return measured(lambda rows: say(filled(rows)), share)

    return values


def _sce(rows: Rows, found: Array | None) -> None:
    assert found is not None
    least, weights = float(found[0]), np.ascontiguousarray(found[1:])
    compiled_tensors.merge_selected(rows.models, least, weights, rows.moves)


def _variances_and_weights(found: Array | None, count: int, parameters: Parameters) -> Combining:
    del count, parameters
    assert found is not None
    return Combining("selected", found[1:].tolist(), bound=float(found[0]))


ARCEE_FUSION = TensorRule(_fused, _fusion_threshold)
SCE = TensorRule(_sce, _selected, _variances_and_weights)
