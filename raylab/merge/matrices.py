"""Methods that combine the task matrices of a layer: TSV-Merge, Iso-C, KnOTS, Core Space.

Model: RULES names a method's space and its rule. Where every model's change of a layer is a product
of LoRA's factors, the merge happens in a small space (`matrix_spaces`), and gives factors. Where a
model is a checkpoint, or an adapter is more than that, the matrices are formed whole, and merged by
the same rule (`matrix_rules`); KnOTS and Core Space are defined for factors alone, and are refused.
A tensor that is no matrix (a norm, a bias, a convolution) has sum(w_i d_i) / T, as in the authors'
programs. A model that leaves a tensor has a task matrix of zeros there.
Invariant: all arithmetic is float64, on one thread of the caller's. One tensor at a time is held.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from raylab.errors import InputError
from raylab.merge import matrix_rules as rules
from raylab.merge.adapter_plan import read_inputs, todo_of
from raylab.merge.inputs import MergePlan
from raylab.merge.matrix_rules import Factors, Rule, TaskMatrices
from raylab.merge.matrix_spaces import SPACES
from raylab.merge.model_rows import ModelRows, refuse_non_finite
from raylab.spec.tensor_settings import TensorSettings
from raylab.store.references import ModelLocation
from raylab.weights.row_tiles import columns_of

RULES: dict[str, tuple[str, Rule]] = {
    "tsv": ("shared", rules.tsv),
    "iso_c": ("shared", rules.iso_c),
    "iso_cts": ("shared", rules.iso_cts),
    "knots_ties": ("knots", rules.ties),
    "core_ties": ("core", rules.ties),
    "core_tsv": ("core", rules.tsv),
    "core_iso_c": ("core", rules.iso_c),
}


@dataclass(frozen=True)
class Product:
    """A merged task matrix up @ down, before lambda; up None: it is `down`, (rows, columns)."""

    up: torch.Tensor | None
    down: torch.Tensor

    def rows(self, start: int, stop: int) -> np.ndarray:
        """Rows [start, stop), float64 (entries,)."""
        if self.up is None:
            return self.down[start:stop].reshape(-1).numpy()
        # A copy, so that the address of a slice cannot choose another kernel.
        return (self.up[start:stop].clone() @ self.down).reshape(-1).numpy()


def check_factors(plan: MergePlan, locations: Sequence[ModelLocation]) -> None:
    """Raise ModelError where a model of a method of factors, one of `locations`, is anything else,
    and InputError where a tokenizer moves rows, or slices move layers."""
    if plan.request.tokenizer is not None:
        raise InputError(
            f"{plan.request.method} merges factors, which have no rows of tokens",
            found=f"tokenizer {plan.request.tokenizer.source}",
            expected="no tokenizer",
        )
    moved = [n for n in plan.shapes for i in plan.models_of(n) if not _stays(plan, n, i)]
    if moved:
        raise InputError(
            f"{plan.request.method} merges factors, which belong to one layer of the base model",
            found=f"layers of other numbers for {', '.join(moved[:3])} ({len(moved)} in all)",
            expected="slices that leave every layer where it is",
        )
    names = [item.model for item in plan.request.inputs]
    read_inputs(names, plan.models, locations, todo_of(plan.request))


def merged_product(rows: ModelRows, name: str) -> Product:
    """The merged task matrix of a tensor that the merge changes. Raises NonFiniteError."""
    plan = rows.plan
    shape, models = plan.shapes[name], plan.models_of(name)
    weights, densities = plan.settings[name].weights, plan.settings[name].densities
    settings = replace(
        plan.settings[name],
        weights=tuple(weights[model] for model in models),
        densities=tuple(densities[model] for model in models),
    )
    if len(shape) != 2:
        total = _zeros(plan, name)
        for model, weight in zip(models, settings.weights, strict=True):
            total += weight * _whole(rows, name, model)
        return Product(None, total / len(models))
    factors = [_factors(plan, name, model) for model in models]
    known = [found for found in factors if found is not None]
    method = plan.request.method
    if len(known) == len(factors):
        return Product(*merge_factors(method, known, settings))
    pairs = zip(models, factors, strict=True)
    whole = [f[0] @ f[1] if f else _whole(rows, name, model) for model, f in pairs]
    return Product(*merge_matrices(method, whole, settings))


def merge_factors(method: str, factors: Sequence[Factors], settings: TensorSettings) -> Factors:
    """The merged task matrix, as factors, of models whose task matrices are products of `factors`;
    no product is formed. factors: of every model in order, without columns where it has none."""
    name, rule = RULES[method]
    space = SPACES[name](factors)
    shape = len(factors[0][0]), factors[0][1].shape[1]
    count = min(shape) // len(factors)
    if name == "core" and (ranks := [up.shape[1] for up, _ in factors if up.shape[1]]):
        # TSV-Merge in Core Space divides the directions that the factors have.
        count = min(*shape, sum(ranks)) // len(ranks)
    return space.back(rule(TaskMatrices(space.coordinates, settings, count)))


def merge_matrices(
    method: str, matrices: Sequence[torch.Tensor], settings: TensorSettings
) -> Factors:
    """As `merge_factors`, of whole task matrices, float64 (rows, columns)."""
    count = min(matrices[0].shape) // len(matrices)
    return RULES[method][1](TaskMatrices(matrices, settings, count))


def _factors(plan: MergePlan, name: str, model: int) -> Factors | None:
    """(B, A) of a model's change of a tensor, with the scale in B; None where it has no factors."""
    viewed, (rows, columns) = plan.models[model], plan.shapes[name]
    own, _, _ = plan.source_of(model, (name, 0, 0))
    if not _stays(plan, name, model):
        return None
    if not viewed.changes(own):
        return torch.zeros(rows, 0).double(), torch.zeros(0, columns).double()
    found = viewed.plain_factors(own)
    if not found:
        return None
    ups = [one.up.double() * one.scale for one in found]
    up, down = torch.cat(ups, 1), torch.cat([one.down.double() for one in found])
    bad = sum(int((~torch.isfinite(side)).sum()) for side in (up, down))
    refuse_non_finite(bad, f"{plan.request.inputs[model].model}: a factor of {name}")
    return up, down


def _stays(plan: MergePlan, name: str, model: int) -> bool:
    """Whether a model's own tensor is that of its base; slices may move layers."""
    return plan.arrangement[name].base == (None, plan.arrangement[name].sources[model])


def _whole(rows: ModelRows, name: str, model: int) -> torch.Tensor:
    """A model's task vector of a tensor, float64 (rows, columns)."""
    whole = _zeros(rows.plan, name)
    for piece in rows.pieces([name]):
        part = whole[piece[1] : piece[2]]
        row = rows.memory.buffer("row", (part.numel(),), "F32")
        rows.check_finite(piece, [model], rows.memory.numbers([rows.fill(row, model, piece)]))
        part.copy_(torch.from_numpy(row).view_as(part))
    return whole


def _zeros(plan: MergePlan, name: str) -> torch.Tensor:
    shape = plan.shapes[name]
    height = shape[0] if len(shape) > 1 else 1
    return torch.zeros(height, columns_of(shape), dtype=torch.float64)


def merged_factors(rows: ModelRows, name: str) -> Factors:
    """As `merged_product`, of a matrix, with lambda in the left one and at least one column."""
    found = merged_product(rows, name)
    assert found.up is not None
    up, down = rows.plan.settings[name].scaling * found.up, found.down
    if not up.shape[1]:
        return up.new_zeros(len(up), 1), down.new_zeros(1, down.shape[1])
    return up, down
