"""Rules of methods that look at a whole tensor of every model before they combine its entries.

Model: RULES is a table, by method. A rule measures the pieces of a tensor in one pass or several,
concludes from what they say, in their order, what the tensor's entries need (factors, thresholds),
and combines each piece. Where nothing has to be measured, a rule only combines. The methods of
`raylab.merge.directions` measure inner products.

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
tensor at a time is held: a few numbers, for arcee_fusion one for each row. The loops are in
`raylab.merge.compiled_tensors`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from raylab.merge import compiled_products, compiled_steps, compiled_tensors, directions, selections
from raylab.merge.compiled_blocks import Combining
from raylab.merge.compiled_rows import Words
from raylab.merge.directions import Array, Factors, Parameters
from raylab.merge.model_rows import ModelRows
from raylab.merge.tensor_rule import Measure, MeasureWords, Passes, Rows, TensorRule
from raylab.merge.thread_memory import Memory
from raylab.store.phase import THRESHOLDS, Tell, silent
from raylab.weights.row_tiles import Piece, Workers

Concluded = Mapping[str, Array]
"""By tensor."""


def concluded(rows: ModelRows, workers: Workers, tell: Tell = silent) -> Concluded:
    """What the method concludes of every tensor that a model changes. Raises NonFiniteError."""
    plan = rows.plan
    rule = RULES.get(plan.request.method)
    if rule is None or rule.conclude is None:
        return {}
    found = {}
    names = [name for name in plan.shapes if plan.models_of(name)]
    for place, name in enumerate(names):

        def measured(
            measure: Measure,
            share: int = 1,
            of_words: MeasureWords | None = None,
            name: str = name,
        ) -> list[Array]:
            pieces = _sampled(rows.pieces([name]), share)

            def work(piece: Piece) -> Array:
                found = of_words and _of_words(rows, piece, of_words)
                return measure(read(rows, piece)) if found is None else found

            return workers.start(pieces, work).wait()

        settings = plan.settings[name]
        weights = np.array([settings.weights[model] for model in plan.models_of(name)])
        found[name] = rule.conclude(measured, weights, settings.parameters)
        tell(THRESHOLDS, place + 1, len(names))
    return found


def _of_words(rows: ModelRows, piece: Piece, measure: MeasureWords) -> Array | None:
    """What is measured of a piece; None where it is no bfloat16. Raises NonFiniteError."""
    words = rows.words(piece)
    if words is None:
        return None
    counts = np.zeros(len(words.models), np.int64)
    found = measure(words, rows.memory, counts)
    rows.check_finite(piece, rows.plan.models_of(piece[0]), counts.tolist())
    return found


def _sampled(pieces: Sequence[Piece], share: int) -> list[Piece]:
    """The first rows of each piece, one of `share`."""
    return [(name, a, a + math.ceil((b - a) / share)) for name, a, b in pieces]


def read(rows: ModelRows, piece: Piece) -> Rows:
    """The rows of `piece`, in memory of this thread. Raises NonFiniteError."""
    models, (base, _) = rows.plan.models_of(piece[0]), rows.base(piece)
    into = rows.memory.buffer("rows", (len(models), *base.shape), "F32")
    counts = [rows.fill(row, model, piece) for row, model in zip(into, models, strict=True)]
    rows.check_finite(piece, models, rows.memory.numbers(counts))
    return rows_of(rows, piece, into, base, rows.memory.buffer("moves", base.shape, "F64"))


def rows_of(rows: ModelRows, piece: Piece, models: Array, base: Array, moves: Array) -> Rows:
    """The same memory, as `Rows` has it; models: (models, entries), the others: (entries,)."""
    plan, (name, start, stop) = rows.plan, piece
    whole = plan.shapes[name]
    is_vector, width = len(whole) < 2, whole[-1] if whole else 1
    settings = plan.settings[name]
    return Rows(
        models,
        base,
        moves,
        (start, stop),
        is_vector,
        width,
        plan.request.method,
        settings.parameters,
        [settings.own[model] for model in plan.models_of(name)],
    )


def combine(rows: Rows, found: Array | None) -> None:
    """Fill `moves` by the rule of the method."""
    RULES[rows.method].combine(rows, found)


def combining(rows: ModelRows, name: str, found: Array | None) -> Combining | None:
    """How the entries of a tensor are combined, where the rule treats them one by one."""
    plan = rows.plan
    say = RULES[plan.request.method].by_entry
    return say and say(found, len(plan.models_of(name)), plan.settings[name].parameters)


def _products(rows: Rows) -> Array:
    """float64 (models, models, 1, rows or columns): of the piece, by row, or by column."""
    over, count = "tensor" if rows.is_vector else _vectors(rows.parameters), len(rows.models)
    if over == "tensor":
        whole = np.empty((count, count))
        compiled_products.products(rows.models, whole)
        return whole[:, :, None]
    wide, axis = rows.matrices.astype(np.float64), 1 if over == "rows" else 0
    found = np.empty((count, count, wide.shape[2 - axis]))
    for i in range(count):
        for j in range(i, count):
            found[i, j] = found[j, i] = (wide[i] * wide[j]).sum(axis=axis)
    return found


def _products_of_words(words: Words, memory: Memory, counts: Array) -> Array:
    return compiled_products.products_of_words(words, memory, counts)[:, :, None]


def _vectors(parameters: Parameters) -> str:
    """Whether a tensor is one vector, or each of its rows or columns is one."""
    if parameters.get("filter_wise") or parameters.get("nuslerp_flatten") is False:
        return "columns" if parameters.get("nuslerp_row_wise") else "rows"
    return "tensor"


def _by_directions(factors: Factors) -> TensorRule:
    """The rule of a method in `raylab.merge.directions`."""

    def conclude(measured: Passes, weights: Array, parameters: Parameters) -> Array:
        over = _vectors(parameters)
        parts = measured(_products, of_words=_products_of_words if over == "tensor" else None)
        if over == "rows":
            products = np.concatenate(parts, axis=2)
            return factors(products, weights, parameters)[:, :, None]
        found = factors(np.sum(parts, axis=0), weights, parameters)
        return found[:, None, :]

    def combined(rows: Rows, found: Array | None) -> None:
        assert found is not None
        if found.shape[1:] == (1, 1):
            compiled_steps.weighted_sum(rows.models, found[:, 0, 0].tolist(), 1.0, rows.moves)
            return
        own = found[:, slice(*rows.bounds)] if _vectors(rows.parameters) == "rows" else found
        total = rows.moves.reshape(rows.matrices.shape[1:])
        np.multiply(own[0], rows.matrices[0], out=total)
        for factor, values in zip(own[1:], rows.matrices[1:], strict=True):
            total += factor * values

    return TensorRule(combined, conclude, _sum_of_models)


def _sum_of_models(found: Array | None, count: int, parameters: Parameters) -> Combining | None:
    del count, parameters
    assert found is not None
    return Combining("sum", found[:, 0, 0].tolist()) if found.shape[1:] == (1, 1) else None


def _nearswap(rows: Rows, _: Array | None) -> None:
    compiled_tensors.clip(rows.models[0], float(rows.parameters["t"]), rows.moves)


def _epsilon(rows: Rows) -> np.float32:
    return np.float32(rows.parameters["epsilon"])


def _ram(rows: Rows, found: Array | None) -> None:
    boosts = np.ones(len(rows.models)) if found is None else found
    compiled_tensors.mean_of_moved(rows.models, _epsilon(rows), boosts, rows.moves)


def _mean_of_moved(found: Array | None, count: int, parameters: Parameters) -> Combining:
    boosts = [1.0] * count if found is None else found.tolist()
    return Combining("mean_of_moved", boosts, bound=float(parameters["epsilon"]))


def _clipped(found: Array | None, count: int, parameters: Parameters) -> Combining:
    del found, count
    return Combining("clip", bound=float(parameters["t"]))


def _counted(rows: Rows) -> Array:
    """int64 (2, models): entries that a model moves with others, and alone."""
    counts = np.zeros((2, len(rows.models)), np.int64)
    compiled_tensors.count_moved(rows.models, _epsilon(rows), counts)
    return counts


def _boosts(measured: Passes, _: Array, parameters: Parameters) -> Array:
    """What the entries that a model moves alone are multiplied by; of none, 1 + r alpha."""
    shared, alone = np.sum(measured(_counted), axis=0)
    most, factor = float(parameters["alpha"]), float(parameters["r"])
    ratios = np.divide(shared, alone, out=np.full(len(alone), most), where=alone > 0)
    return 1.0 + factor * np.minimum(ratios, most)


def _passthrough(rows: Rows, _: Array | None) -> None:
    compiled_tensors.scale(rows.models[0], float(rows.own[0]["scale"]), rows.moves)


RULES: dict[str, TensorRule] = {
    "slerp": _by_directions(directions.slerp),
    "nuslerp": _by_directions(directions.nuslerp),
    "multislerp": _by_directions(directions.multislerp),
    "karcher": _by_directions(directions.karcher),
    "model_stock": _by_directions(directions.model_stock),
    "nearswap": TensorRule(_nearswap, by_entry=_clipped),
    "ram": TensorRule(_ram, by_entry=_mean_of_moved),
    "ramplus_tl": TensorRule(_ram, _boosts, _mean_of_moved),
    "arcee_fusion": selections.ARCEE_FUSION,
    "sce": selections.SCE,
    "passthrough": TensorRule(_passthrough),
}
