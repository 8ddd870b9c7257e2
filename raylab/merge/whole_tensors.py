"""Rules of methods that look at a whole tensor of every model before they combine its entries.

Model: RULES is a table, by method. A rule measures the pieces of a tensor, concludes from all of
them in their order what the tensor's entries need (factors, thresholds), and combines each piece.
Where nothing has to be measured, a rule only combines. The methods of `raylab.merge.directions`
measure inner products.

    nearswap   d where |d| <= t, else t in d's direction: the share min(1, t / |d|) of the model
               (alchemonaut 2024; no paper)
    ram        the sum of the d_i with |d_i| > epsilon, over their number
               (Yuan et al. 2026, arXiv:2601.13572)
    ramplus_tl as ram; an entry that model i alone moves is multiplied by
               1 + r min(alpha, shared_i / alone_i), which are the numbers of entries of the tensor
               that model i moves with others and alone (the same paper's RAM+, which counts over
               the whole model)
    arcee_fusion  d where its importance reaches a threshold (`raylab.merge.fusion`)
    sce        of the tensor's entries whose variance over the models is not zero, the share
               select_topk of the largest stays, with ties; model i weighs sum(d_i^2) of these, over
               that of all models; d_i of the sign that their plain sum has are averaged by these
               weights (Wan et al. 2024, arXiv:2408.07990, section 3.3)

Invariant: x is float32 and read where it lies; all arithmetic is float64 on the CPU, and sums have
the order of the pieces, so the bits depend on neither threads nor device. What is measured of one
tensor at a time is held: a few numbers, or one float64 for each entry.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from raylab.merge import directions, fusion
from raylab.merge.directions import Array, Factors, Parameters
from raylab.merge.model_rows import ModelRows
from raylab.merge.trim import counter
from raylab.store.phase import THRESHOLDS, Tell, silent
from raylab.weights.row_tiles import Piece, Workers


@dataclass(frozen=True)
class Rows:
    """Some rows of one tensor: of each model, and of the base.

    models: float32 (models, rows, columns), values or task vectors; a rule sets to zero what it
    leaves out. base: float32 (rows, columns). start: the first row's index.
    is_vector: the tensor has one dimension, and so one row. width: how many entries differ in the
    tensor's last index alone. parameters: the method's own, of this tensor; own: those of each
    model.
    """

    models: Array
    base: Array
    start: int
    is_vector: bool
    width: int
    method: str
    parameters: Parameters
    own: Sequence[Parameters]


@dataclass(frozen=True)
class TensorRule:
    """measure: what a piece says; conclude: of all pieces, in order, with the models' weights and
    the method's parameters;
    combine: float64 (rows, columns), what is added to the base or, for values, the result."""

    combine: Callable[[Rows, Array | None], Array]
    measure: Callable[[Rows], Array] | None = None
    conclude: Callable[[Sequence[Array], Array, Parameters], Array] | None = None


Concluded = Mapping[str, Array]
"""By tensor."""


def concluded(rows: ModelRows, workers: Workers, tell: Tell = silent) -> Concluded:
    """What the method concludes of every tensor that a model changes. Raises NonFiniteError."""
    plan = rows.plan
    rule = RULES.get(plan.request.method)
    if rule is None or rule.measure is None or rule.conclude is None:
        return {}
    measure, found = rule.measure, {}
    names = [name for name in plan.shapes if plan.models_of(name)]
    for place, name in enumerate(names):
        pieces, parts = rows.pieces([name]), dict[Piece, Array]()

        def work(piece: Piece, parts: dict[Piece, Array] = parts) -> None:
            parts[piece] = measure(read(rows, piece))

        workers.each(pieces, work, counter(tell, THRESHOLDS, len(names), place))
        settings = plan.settings[name]
        weights = np.array([settings.weights[model] for model in plan.models_of(name)])
        found[name] = rule.conclude(
            [parts[piece] for piece in pieces], weights, settings.parameters
        )
    return found


def read(rows: ModelRows, piece: Piece) -> Rows:
    """The rows of `piece`, in memory of this thread. Raises NonFiniteError."""
    models, (base, _) = rows.plan.models_of(piece[0]), rows.base(piece)
    into = rows.memory.buffer("rows", (len(models), *base.shape), "F32")
    counts = [rows.fill(row, model, piece) for row, model in zip(into, models, strict=True)]
    rows.check_finite(piece, models, rows.memory.numbers(counts))
    return rows_of(rows, piece, into, base)


def rows_of(rows: ModelRows, piece: Piece, models: Array, base: Array) -> Rows:
    """The same memory, as `Rows` has it; models: (models, entries), base: (entries,)."""
    plan, (name, start, stop) = rows.plan, piece
    whole = plan.shapes[name]
    is_vector, width = len(whole) < 2, whole[-1] if whole else 1
    shape = (stop - start, -1)
    values, settings = models.reshape(len(models), *shape), plan.settings[name]
    return Rows(
        values,
        base.reshape(shape),
        start,
        is_vector,
        width,
        plan.request.method,
        settings.parameters,
        [settings.own[model] for model in plan.models_of(name)],
    )


def combine(rows: Rows, found: Array | None) -> Array:
    """float64 (rows, columns) by the rule of the method."""
    return RULES[rows.method].combine(rows, found)


def _products(rows: Rows) -> Array:
    """float64 (models, models, 1, rows or columns): of the piece, by row, or by column."""
    over = "tensor" if rows.is_vector else _vectors(rows.parameters)
    axes = {"tensor": (0, 1), "rows": 1, "columns": 0}[over]
    count = len(rows.models)
    wide = rows.models.astype(np.float64)
    found = np.empty((count, count, *np.atleast_1d(wide[0].sum(axis=axes)).shape))
    for i in range(count):
        for j in range(i, count):
            found[i, j] = found[j, i] = (wide[i] * wide[j]).sum(axis=axes)
    return found


def _vectors(parameters: Parameters) -> str:
    """Whether a tensor is one vector, or each of its rows or columns is one."""
    if parameters.get("filter_wise") or parameters.get("nuslerp_flatten") is False:
        return "columns" if parameters.get("nuslerp_row_wise") else "rows"
    return "tensor"


def _by_directions(factors: Factors) -> TensorRule:
    """The rule of a method in `raylab.merge.directions`."""

    def conclude(parts: Sequence[Array], weights: Array, parameters: Parameters) -> Array:
        over = _vectors(parameters)
        if over == "rows":
            products = np.concatenate(parts, axis=2)
            return factors(products, weights, parameters)[:, :, None]
        found = factors(np.sum(parts, axis=0), weights, parameters)
        return found[:, None, :]

    def combined(rows: Rows, found: Array | None) -> Array:
        assert found is not None
        stop = rows.start + len(rows.base)
        mine = found[:, rows.start : stop] if _vectors(rows.parameters) == "rows" else found
        total = mine[0] * rows.models[0]
        for factor, values in zip(mine[1:], rows.models[1:], strict=True):
            total += factor * values
        return total

    return TensorRule(combined, _products, conclude)


def _nearswap(rows: Rows, _: Array | None) -> Array:
    most = float(rows.parameters["t"])
    return np.clip(rows.models[0].astype(np.float64), -most, most)


def _moved(rows: Rows) -> Array:
    """bool (models, rows, columns): by more than epsilon."""
    return np.asarray(np.abs(rows.models) > float(rows.parameters["epsilon"]))


def _ram(rows: Rows, _: Array | None) -> Array:
    moved = _moved(rows)
    np.multiply(rows.models, moved, out=rows.models)
    total = rows.models.sum(axis=0, dtype=np.float64)
    return total / np.maximum(moved.sum(axis=0), 1)


def _counted(rows: Rows) -> Array:
    """int64 (2, models): entries that a model moves with others, and alone."""
    moved = _moved(rows)
    alone = moved & (moved.sum(axis=0) == 1)
    counts = np.array([moved.sum(axis=(1, 2)), alone.sum(axis=(1, 2))])
    counts[0] -= counts[1]
    return counts


def _boosts(parts: Sequence[Array], _: Array, parameters: Parameters) -> Array:
    """What the entries that a model moves alone are multiplied by; of none, 1 + r alpha."""
    shared, alone = np.sum(parts, axis=0)
    most, factor = float(parameters["alpha"]), float(parameters["r"])
    ratios = np.divide(shared, alone, out=np.full(len(alone), most), where=alone > 0)
    return 1.0 + factor * np.minimum(ratios, most)


def _ramplus(rows: Rows, found: Array | None) -> Array:
    assert found is not None
    moved = _moved(rows)
    np.multiply(rows.models, moved, out=rows.models)
    count = moved.sum(axis=0)
    total = (np.where(count == 1, found[:, None, None], 1.0) * rows.models).sum(axis=0)
    return np.asarray(total / np.maximum(count, 1))


def _important(rows: Rows) -> Array:
    return fusion.importance(rows.models[0], rows.base, rows.width)


def _fusion_threshold(parts: Sequence[Array], _: Array, parameters: Parameters) -> Array:
    return np.array(fusion.threshold(np.concatenate([part.ravel() for part in parts])))


def _fused(rows: Rows, found: Array | None) -> Array:
    np.multiply(rows.models, _important(rows) >= found, out=rows.models)
    return rows.models[0].astype(np.float64)


def _variances(rows: Rows) -> Array:
    """float64 (rows, columns): of an entry over the models."""
    wide = rows.models.astype(np.float64)
    return np.square(wide - wide.mean(axis=0)).mean(axis=0)


def _selecting(rows: Rows) -> Array:
    """The variances, and the square of each model's entry: float64 (1 + models, entries)."""
    squares = np.square(rows.models.astype(np.float64))
    return np.stack([_variances(rows), *squares]).reshape(1 + len(squares), -1)


def _selected(parts: Sequence[Array], _: Array, parameters: Parameters) -> Array:
    """The smallest variance that is selected, then the weight of each model."""
    variances = np.concatenate([part[0] for part in parts])
    share, least = float(parameters["select_topk"]), 0.0
    if share < 1:
        count = int(share * np.count_nonzero(variances))
        least = np.partition(variances, -count)[-count] if count else np.inf
    sums = np.sum([part[1:][:, part[0] >= least].sum(axis=1) for part in parts], axis=0)
    total = sums.sum()
    return np.array([least, *(sums / total if total else sums)])


def _sce(rows: Rows, found: Array | None) -> Array:
    assert found is not None
    np.multiply(rows.models, _variances(rows) >= found[0], out=rows.models)
    sign = np.sign(rows.models.sum(axis=0, dtype=np.float64))
    agrees = (np.sign(rows.models) == sign) & (sign != 0)
    weights = found[1:, None, None] * agrees
    total = weights.sum(axis=0)
    moves = (weights * rows.models).sum(axis=0)
    return np.divide(moves, total, out=np.zeros_like(moves), where=total > 0)


def _passthrough(rows: Rows, _: Array | None) -> Array:
    return rows.models[0].astype(np.float64) * float(rows.own[0]["scale"])


RULES: dict[str, TensorRule] = {
    "slerp": _by_directions(directions.slerp),
    "nuslerp": _by_directions(directions.nuslerp),
    "multislerp": _by_directions(directions.multislerp),
    "karcher": _by_directions(directions.karcher),
    "model_stock": _by_directions(directions.model_stock),
    "nearswap": TensorRule(_nearswap),
    "ram": TensorRule(_ram),
    "ramplus_tl": TensorRule(_ramplus, _counted, _boosts),
    "arcee_fusion": TensorRule(_fused, _important, _fusion_threshold),
    "sce": TensorRule(_sce, _selecting, _selected),
    "passthrough": TensorRule(_passthrough),
}
