"""What kept entries are multiplied by, so that a task vector has its L1 norm again.

Model: trimming and dropping take away some of a tensor's L1 norm. mergekit 0.1.5 calls `rescale`
that the kept entries are multiplied by (sum of all magnitudes) / (sum of the kept ones), for each
tensor of each model; a sum below 1e-7 multiplies nothing.
Invariant: both sums are exact, and their quotient is rounded once. So the bits depend on no piece,
thread or device: the sums are made on the CPU, wherever the merge runs.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

from raylab.merge.backend import CPU
from raylab.merge.inputs import MergePlan
from raylab.merge.merger import Merger
from raylab.merge.model_rows import ModelRows
from raylab.merge.trim import Trims
from raylab.weights.row_tiles import Piece, Workers

_LEAST = 10**-7 * 2**149
"""The least sum that counts, in units of 2^-149, the smallest float32."""


def rescaling_of(
    plan: MergePlan, trims: Sequence[Trims], workers: Workers
) -> Mapping[tuple[int, str], float]:
    """By model and tensor, the factor of the kept entries; empty where the request restores no
    norm. Raises NonFiniteError."""
    if plan.request.rescale != "l1":
        return {}
    rows, lock = ModelRows(plan, CPU), threading.Lock()
    merger = Merger(rows, trims, {})
    before: Counter[tuple[int, str]] = Counter()
    after: Counter[tuple[int, str]] = Counter()

    def work(piece: Piece) -> None:
        for model in plan.models_of(piece[0]):
            row = rows.memory.buffer("row", (rows.size(piece),), "F32")
            count = rows.memory.numbers([rows.fill(row, model, piece)])
            rows.check_finite(piece, [model], count)
            whole = _sum_of_magnitudes(row)
            merger.keep(row, model, piece)
            kept = _sum_of_magnitudes(row)
            with lock:
                before[model, piece[0]] += whole
                after[model, piece[0]] += kept

    workers.each(rows.pieces([name for name in plan.shapes if plan.models_of(name)]), work)
    return {
        key: whole / after[key] if min(whole, after[key]) >= _LEAST else 1.0
        for key, whole in before.items()
    }


def _sum_of_magnitudes(row: np.ndarray) -> int:
    """In units of 2^-149. row: float32 (size,), finite, of fewer than 2^29 entries: then the
    sums of 24-bit significands by exponent are exact in float64."""
    bits = row.view(np.uint32) & np.uint32(0x7FFFFFFF)
    exponents = (bits >> np.uint32(23)).astype(np.int64)
    significands = (bits & np.uint32(0x7FFFFF)) + (np.minimum(exponents, 1) << 23)
    sums = np.bincount(exponents, weights=significands)
    return sum(int(total) << max(exponent - 1, 0) for exponent, total in enumerate(sums) if total)
