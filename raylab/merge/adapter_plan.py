"""What an adapter that is merged of adapters has: its layers, their factors, and their ranks.

Model: an input is an adapter, or a chain of them, whose change of every tensor is a product of two
factors of a linear layer. The output changes every layer that one of them changes. Its layers are
called as in the inputs' files, the base model's tensors as in its own files.
Invariant: a plan that exists can be carried out. An input that is more than such factors is refused
with what it has more: by `plan_adapter`, and for a study by `read_inputs` before it trains.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from raylab.errors import InputError, ModelError
from raylab.merge.inputs import MergePlan
from raylab.spec.adapter_output import EXACT, AdapterOutput
from raylab.spec.merges import MergeRequest
from raylab.spec.tensor_settings import TensorSettings
from raylab.spec.weight_files import read_json
from raylab.store.references import ModelLocation
from raylab.weights.adapter import Adapter
from raylab.weights.adapter_config import CONFIG
from raylab.weights.adapter_parts import Factors
from raylab.weights.model_view import ModelView

_TODO = "merge them into a whole model: --as model, which is the default"
_TODO_OF_FACTORS = "merge them by tsv, iso_c or ties, which take any models"


@dataclass(frozen=True)
class AdapterInputs:
    """The layers that adapters change.

    modules: what PEFT calls the layer of every tensor that one of them changes, without its prefix.
    configs: the adapters' adapter_config.json. is_conv1d: whether the layers keep their weights
    transposed, as GPT-2's Conv1D does.
    """

    modules: Mapping[str, str]
    configs: Sequence[Mapping[str, Any]]
    is_conv1d: bool


@dataclass(frozen=True)
class AdapterPlan:
    """A merge whose inputs can be added up or approximated as an adapter.

    modules: of the tensors that the merge changes, as in `AdapterInputs`.
    """

    merge: MergePlan
    asked: AdapterOutput
    modules: Mapping[str, str]
    inputs: AdapterInputs

    @cached_property
    def is_sum(self) -> bool:
        """Whether the merged delta is a sum of the inputs' products of factors."""
        return _is_sum(self.merge.request, self.merge.settings, self.modules)

    @property
    def has_factors(self) -> bool:
        """Whether the merged delta comes as factors: of a sum, or of a method of matrices."""
        return self.is_sum or self.merge.request.row.combines == "matrices"

    def rank(self, name: str) -> int:
        """The sum of the inputs' ranks."""
        return sum(factors.rank for _, factors in self._terms(name))

    def factors(self, name: str) -> tuple[torch.Tensor, torch.Tensor]:
        """The merged delta of a sum as (B, A), float64 (rows, rank) and (rank, columns), with all
        weights, scales and lambda in B."""
        settings = self.merge.settings[name]
        divisor = (sum(settings.weights) or 1.0) if settings.normalize else 1.0
        ups, downs = [], []
        for model, found in self._terms(name):
            weight = settings.scaling * settings.weights[model] / divisor
            ups.append(found.up.double() * (weight * found.scale))
            downs.append(found.down.double())
        return torch.cat(ups, 1), torch.cat(downs)

    def _terms(self, name: str) -> list[tuple[int, Factors]]:
        """The factors of every adapter of every input that changes a tensor, by the input."""
        models = enumerate(self.merge.models)
        return [(number, one) for number, model in models for one in model.plain_factors(name)]


def plan_adapter(plan: MergePlan, locations: Sequence[ModelLocation]) -> AdapterPlan:
    """The adapter that `plan` makes of the models at `locations`. Raises ModelError, InputError."""
    asked = plan.request.output
    assert asked is not None
    if plan.request.dtype not in (None, "float32"):
        raise InputError(
            "the factors of an adapter are float32",
            found=f"dtype {plan.request.dtype}",
            expected="float32, or no dtype",
            todo="take the dtype out; a server that takes the adapter has a dtype of its own",
        )
    names = [item.model for item in plan.request.inputs]
    inputs = read_inputs(names, plan.models, locations, todo_of(plan.request))
    changed = [name for name in plan.shapes if plan.models_of(name)]
    if others := [name for name in changed if name not in inputs.modules]:
        raise ModelError(
            "the merge scales tensors that no adapter changes",
            found=f"{others[0]} ({len(others)} in all)",
            expected="weights that sum to 1, or are divided by their sum",
            todo=_TODO,
        )
    modules = {name: inputs.modules[name] for name in changed}
    if not modules:
        raise ModelError("no adapter changes anything", expected="an adapter with factors")
    return AdapterPlan(plan, asked, modules, inputs)


def todo_of(request: MergeRequest) -> str:
    """What to do with models that are more than factors of linear layers."""
    return _TODO_OF_FACTORS if request.row.inputs == "factors" else _TODO


def read_inputs(
    names: Sequence[str],
    models: Sequence[ModelView],
    locations: Sequence[ModelLocation],
    todo: str = _TODO,
) -> AdapterInputs:
    """The layers of `models`, which lie at `locations`. Raises ModelError where one of them is no
    adapter, or more than LoRA on linear layers; `todo`: what the error proposes."""
    modules: dict[str, set[str]] = defaultdict(set)
    configs, conv1d = [], set()
    for name, model, place in zip(names, models, locations, strict=True):
        if place.checkpoint or place.is_whole:
            refuse_whole(name, place.checkpoint or f"a base model of its own, {place.base}", todo)
        for directory, adapter in zip(place.adapters, model.adapters, strict=True):
            configs.append(read_json(directory / CONFIG, "the config of an adapter"))
            _refuse_more(name, directory, _more_than_factors(adapter, configs[-1]), todo)
            for tensor in adapter.names:
                modules[tensor].add(adapter.own_names[tensor].removesuffix(".weight"))
            conv1d |= {tensor in adapter.conv1d for tensor in adapter.names}
    if len(conv1d) > 1:
        raise ModelError(
            "some of the layers keep their weights transposed, and others do not",
            found=", ".join(names),
            expected="one setting of fan_in_fan_out for all layers",
            todo=_TODO,
        )
    named = {tensor: _one_name(tensor, found) for tensor, found in modules.items()}
    return AdapterInputs(named, configs, conv1d == {True})


def refuse_whole(name: str, found: object, todo: str = _TODO) -> None:
    """Raise ModelError: the input `name` is a checkpoint."""
    raise ModelError(
        f"{name} is a whole model, and has no factors",
        found=found,
        expected="adapters alone",
        todo=todo,
    )


def _more_than_factors(adapter: Adapter, config: Mapping[str, Any]) -> dict[str, str]:
    """What an adapter has beyond the factors of linear layers, by tensor."""
    if parameters := config.get("target_parameters"):
        return dict.fromkeys(parameters, "LoRA on parameters, as of experts (target_parameters)")
    found = {tensor: adapter.beyond_factors(tensor) for tensor in adapter.names}
    return {tensor: why for tensor, why in found.items() if why}


def _refuse_more(model: str, directory: Path, more: Mapping[str, str], todo: str) -> None:
    if not more:
        return
    kinds = {why: [t for t in more if more[t] == why] for why in dict.fromkeys(more.values())}
    told = [f"{why}: {named[0]} ({len(named)} in all)" for why, named in kinds.items()]
    raise ModelError(
        f"{model} is more than LoRA on linear layers",
        found=f"{directory}: {'; '.join(told)}",
        expected="factors A and B alone",
        todo=todo,
    )


def _one_name(tensor: str, names: set[str]) -> str:
    """What the output calls a layer that the adapters call `names`. One that was trained on
    AutoModel lacks the first words of the class with a head, which has the name here."""
    longest = max(names, key=len)
    if not all(longest == name or longest.endswith(f".{name}") for name in names):
        raise ModelError(
            f"the adapters have two names for the layer of {tensor}",
            found=", ".join(sorted(names)),
            expected="adapters that were trained with one class of transformers",
            todo=_TODO,
        )
    return longest


def _is_sum(
    request: MergeRequest, settings: Mapping[str, TensorSettings], tensors: Mapping[str, str]
) -> bool:
    """A mean of values is the base plus a mean of task vectors; another sum of values is not."""
    if request.method not in EXACT:
        return False
    return not request.of_values or all(settings[name].keeps_equal(request.row) for name in tensors)
