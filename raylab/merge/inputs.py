"""Opens the models of a merge, and holds every tensor of theirs against the base model's.

Model: the template is the checkpoint whose tensors, dtypes, config and tokenizer the output
has: the base model, or for `linear` without one the first model. Its buffers that are no
parameters are left out, as transformers makes them anew.
Invariant: a plan that exists can be carried out: every model has the template's shapes, a
checkpoint all of them, an adapter those that it changes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from raylab.errors import InputError, ModelError
from raylab.spec.merges import MergeRequest
from raylab.store.references import Place
from raylab.weights import Checkpoint, Shape
from raylab.weights.checkpoint_writer import TensorPlan
from raylab.weights.safetensors_file import DTYPE_NAMES
from raylab.weights.views import DELTA, Side


@dataclass(frozen=True)
class MergePlan:
    """A merge whose models are open and fit. template: whose tensors the output has."""

    request: MergeRequest
    sides: tuple[Side, ...]
    template: Checkpoint
    directory: Path
    dtypes: Mapping[str, torch.dtype]

    @property
    def shapes(self) -> Mapping[str, Shape]:
        """The output's tensors."""
        return self.template.shapes

    @property
    def tensors(self) -> list[TensorPlan]:
        """The output's tensors, as files hold them."""
        return [
            TensorPlan(n, DTYPE_NAMES[self.dtypes[n]], shape) for n, shape in self.shapes.items()
        ]

    def models_of(self, name: str) -> list[int]:
        """Which models have a part in the tensor: for `linear` all of them."""
        touching = [i for i, side in enumerate(self.sides) if name in side.shapes]
        everyone = self.request.row.of == "values" and touching
        return list(range(len(self.sides))) if everyone else touching


def plan_merge(request: MergeRequest, places: Sequence[Place], base: Path | None) -> MergePlan:
    """Open all models and check that they fit. `base`: the base model's directory; without it
    (`linear`) the first model is what the others have to look like.

    Raises InputError and ModelError.
    """
    directory = base or places[0].checkpoint or places[0].base
    strangers = [p for p in places if p.adapters and base is None and p.base != directory]
    if directory is None or strangers:
        raise InputError(
            "an adapter has no weights of its own", expected="--base, the model it belongs to"
        )
    template = Checkpoint(directory)
    sides = tuple(Side(replace(place, base=directory), DELTA, template) for place in places)
    dtypes = {name: template.raw(name, 0, 0).dtype for name in template.shapes}
    plan = MergePlan(request, sides, template, directory, dtypes)
    for item, side in zip(request.inputs, sides, strict=True):
        _check_shapes(item.model, side, template)
    _check_dtype(plan)
    return plan


def _check_shapes(model: str, side: Side, template: Checkpoint) -> None:
    known, mine = template.shapes, side.shapes
    wrong = [
        f"{n}: {tuple(mine[n])}, base: {known.get(n, 'none')}"
        for n in mine
        if mine[n] != known.get(n)
    ]
    if side.is_checkpoint:
        wrong += [f"{name}: none" for name in template.shapes if name not in mine]
    if wrong:
        more = f" and {len(wrong) - 5} more" if len(wrong) > 5 else ""
        raise ModelError(
            f"{model} does not fit the base model",
            found="; ".join(wrong[:5]) + more,
            expected="the tensors and shapes of the base model",
            todo="merge models that were trained from this base, with its vocabulary",
        )


def _check_dtype(plan: MergePlan) -> None:
    wanted = plan.request.dtype
    found = {str(dtype).removeprefix("torch.") for dtype in plan.dtypes.values()}
    if wanted and found != {wanted}:
        raise ModelError(
            "the output has the dtype of the base model",
            found=f"{wanted} asked for, {', '.join(sorted(found))} in the base model",
            expected="the same, or no dtype",
        )
