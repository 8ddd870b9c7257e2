"""What an adapter that is merged of adapters has: its layers, their factors, and their ranks.

Model: an input is an adapter, or a chain of them, of factors A and B alone on linear layers. The
output changes every layer that one of them changes. Its layers are called as in the inputs' files,
the base model's tensors as in its own files.
Invariant: a plan that exists can be carried out: each tensor that the merge changes is a matrix
with factors, and a rank that is asked for fits into each of them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from raylab.errors import InputError, ModelError
from raylab.merge.inputs import MergePlan
from raylab.spec.adapter_output import EXACT, AdapterOutput
from raylab.spec.weight_files import read_json
from raylab.store.references import ModelLocation
from raylab.weights.adapter import names_as_stored
from raylab.weights.adapter_config import CONFIG
from raylab.weights.export import PREFIX, PlainAdapter, open_plain
from raylab.weights.mlx_adapter import is_mlx_config

_TODO = "merge them with --as model, the default"


@dataclass(frozen=True)
class Term:
    """The factors of one layer in one adapter of the input number `model`."""

    model: int
    adapter: PlainAdapter
    module: str


@dataclass(frozen=True)
class AdapterPlan:
    """A merge whose inputs can be added up or approximated as an adapter.

    terms: of every tensor that changes, by its name in the base model's files.
    """

    merge: MergePlan
    asked: AdapterOutput
    terms: Mapping[str, Sequence[Term]]

    @property
    def is_sum(self) -> bool:
        """Whether the merged delta is a sum of the inputs' products of factors."""
        return self.merge.request.method in EXACT

    @property
    def adapters(self) -> list[PlainAdapter]:
        """All adapters that are added, the first input's first."""
        found = {id(t.adapter): t.adapter for terms in self.terms.values() for t in terms}
        return list(found.values())

    def module(self, name: str) -> str:
        """What an adapter's file calls the layer of a tensor, with PEFT's prefix."""
        return self.terms[name][0].module

    def rank(self, name: str) -> int:
        """The sum of the inputs' ranks."""
        return sum(term.adapter.rank(term.module) for term in self.terms[name])

    def factors(self, name: str) -> tuple[torch.Tensor, torch.Tensor]:
        """The merged delta of a method of EXACT as (B, A), float64 (rows, rank) and (rank,
        columns), with all weights, scales and lambda in B."""
        request = self.merge.request
        weights = [of_model[name] for of_model in self.merge.settings.weights]
        divisor = (sum(weights) or 1.0) if request.normalize else 1.0
        ups, downs = [], []
        for term in self.terms[name]:
            up, down = term.adapter.stored(term.module)
            weight = request.scaling * weights[term.model] / divisor
            ups.append(up.double() * (weight * term.adapter.scale(term.module)))
            downs.append(down.double())
        return torch.cat(ups, 1), torch.cat(downs)


def plan_adapter(plan: MergePlan, locations: Sequence[ModelLocation]) -> AdapterPlan:
    """The adapter that `plan` makes of the models at `locations`. Raises ModelError, InputError."""
    asked = plan.request.output
    assert asked is not None
    if plan.request.dtype not in (None, "float32"):
        raise InputError(
            "the factors of an adapter are float32",
            found=f"dtype {plan.request.dtype}",
            expected="float32, or no dtype",
        )
    terms: dict[str, list[Term]] = defaultdict(list)
    for number, (item, place) in enumerate(zip(plan.request.inputs, locations, strict=True)):
        if place.checkpoint:
            raise ModelError(
                f"{item.model} is a whole model, of which no adapter is made",
                found=place.checkpoint,
                expected="adapters alone",
                todo=_TODO,
            )
        for directory in place.adapters:
            for name, term in _terms(plan, number, directory, item.model):
                terms[name].append(term)
    _check_names(plan, terms)
    found = AdapterPlan(plan, asked, {n: terms[n] for n in plan.shapes if n in terms})
    _check_rank(found)
    return found


def _terms(plan: MergePlan, number: int, directory: Path, model: str) -> list[tuple[str, Term]]:
    """The factors of one adapter by the tensor that they change."""
    if is_mlx_config(read_json(directory / CONFIG, "the config of an adapter")):
        raise ModelError(
            f"{model} is an adapter of mlx-lm", found=directory, expected="one of PEFT", todo=_TODO
        )
    adapter = open_plain(directory, model, _TODO)
    modules = {f"{m.removeprefix(PREFIX)}.weight": m for m in adapter.modules}
    shapes = {name: adapter.shape(module) for name, module in modules.items()}
    refused = [f"{name} {shape}" for name, shape in shapes.items() if len(shape) != 2]
    if adapter.config.ensure_weight_tying:
        refused.append("ensure_weight_tying")
    if refused:
        raise ModelError(
            f"{model} is more than LoRA on linear layers",
            found=f"{directory}: {', '.join(refused[:3])} ({len(refused)} in all)",
            expected="a matrix for each layer",
            todo=_TODO,
        )
    names = names_as_stored(shapes, plan.template)
    return [(names[n], Term(number, adapter, module)) for n, module in modules.items()]


def _check_names(plan: MergePlan, terms: Mapping[str, Sequence[Term]]) -> None:
    """Refuse a tensor that the merge changes otherwise than by the factors that were found, and a
    layer with two names."""
    changed = {name for name in plan.shapes if plan.models_of(name)}
    if other := sorted(changed ^ terms.keys()):
        raise ModelError(
            "an adapter changes tensors that are no linear layers",
            found=f"{', '.join(other[:3])} ({len(other)} in all)",
            expected="factors A and B alone",
            todo=_TODO,
        )
    for name, found in terms.items():
        if len(modules := {term.module for term in found}) > 1:
            raise ModelError(
                f"the adapters have two names for the layer of {name}",
                found=", ".join(sorted(modules)),
                expected="adapters that were trained with one class of transformers",
                todo=_TODO,
            )
    if not terms:
        raise ModelError("no adapter changes anything", expected="an adapter with factors")


def _check_rank(plan: AdapterPlan) -> None:
    rank = plan.asked.rank
    sides = {name: min(plan.merge.shapes[name]) for name in plan.terms}
    least = min(sides, key=lambda name: sides[name])
    if rank is not None and rank > sides[least]:
        raise InputError(
            "the rank is larger than a tensor",
            found=f"--rank {rank}; {least} is {tuple(plan.merge.shapes[least])}",
            expected=f"at most {sides[least]}",
        )
