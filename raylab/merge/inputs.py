"""The models of a merge: opened, checked against the base model, and cut into pieces.

Model: the template is the checkpoint whose tensors, dtypes, config and tokenizer the output has:
the base model, or for `linear` without one the first model. Its buffers that are no parameters
are left out, because transformers makes them anew. A piece is some rows of one tensor, and threads
share the pieces.
Where a model has two weights that the template ties, both are in the output, which is not tied:
each moves as that model's forward pass has it.
Invariant: a plan that exists can be carried out: every model has the template's shapes, a
checkpoint all of them, an adapter those that it changes. Where an adapter changes a tensor, pieces
are the tiles of `raylab.weights.row_tiles`: the bits of its rows may depend on their bounds, and
are so the same when thresholds are found, when rows are trimmed, and when models are compared.
Rows of checkpoints do not depend on bounds, and larger pieces cost less: on a CPU, pieces of 2^19
entries took 0.7 times as long as tiles, larger ones as long as these.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

from raylab.errors import InputError, ModelError
from raylab.merge.token_plan import TokenPlan, plan_tokens
from raylab.spec.merges import MergeRequest
from raylab.spec.tensor_settings import TensorSettings, settings_of
from raylab.spec.vocabularies import Side, check_vocabularies, is_of_tokens, places_of
from raylab.store.references import ModelLocation
from raylab.weights import Checkpoint, Shape
from raylab.weights.checkpoint import StoredWeights
from raylab.weights.checkpoint_writer import TensorSpec
from raylab.weights.model_view import ModelView
from raylab.weights.row_tiles import Piece, tiles
from raylab.weights.views import DELTA, ViewedModel

_NAMES = {"bfloat16": "BF16", "float16": "F16", "float32": "F32"}
"""How safetensors name the dtypes of a request."""


@dataclass(frozen=True)
class MergePlan:
    """A merge whose models are open and fit. template: whose tensors the output has."""

    request: MergeRequest
    models: tuple[ModelView, ...]
    template: StoredWeights
    directory: Path
    dtypes: Mapping[str, str]
    untied: Mapping[str, Shape] = field(default_factory=dict)
    """The output's tensors that the template has only as other names of its own."""
    tokens: TokenPlan | None = None
    """What gives the output's rows their tokens, where the request asks for a tokenizer."""

    @cached_property
    def shapes(self) -> Mapping[str, Shape]:
        """The output's tensors."""
        return {**self.template.shapes, **self.untied}

    @cached_property
    def settings(self) -> Mapping[str, TensorSettings]:
        """What each tensor is merged with. Raises InputError where a setting does not fit."""
        return settings_of(self.request, self.shapes)

    @property
    def tensors(self) -> list[TensorSpec]:
        """The output's tensors, as files hold them."""
        return [TensorSpec(n, self.dtypes[n], shape) for n, shape in self.shapes.items()]

    def models_of(self, name: str) -> list[int]:
        """The indices of the models that change the tensor and keep entries of it; all,
        if any does, where the method combines values, whole tensors or matrices."""
        densities = self.settings[name].densities
        changing = [i for i, m in enumerate(self.models) if densities[i] and m.changes(name)]
        looks_at_all = self.request.of_values or self.request.row.combines != "entries"
        if looks_at_all and (changing or self._scales(name)):
            return list(range(len(self.models)))
        return changing

    def _scales(self, name: str) -> bool:
        """Whether models that are alike give another tensor than theirs."""
        row = self.request.row
        return self.request.of_values and not self.settings[name].keeps_equal(row)

    def pieces(self, names: Iterable[str], entries: int) -> list[Piece]:
        """The pieces of the tensors `names`, in order: of about `entries` each, but tiles where an
        adapter changes the tensor."""
        found: list[Piece] = []
        for name in names:
            size = entries if self._is_of_checkpoints(name) else None
            found += [(name, *rows) for rows in tiles(self.shapes[name], size)]
        return found

    @property
    def entries_of_checkpoints(self) -> int:
        """The entries of all task vectors, of tensors that no adapter changes."""
        return sum(
            math.prod(shape) * len(self.models_of(name))
            for name, shape in self.shapes.items()
            if self._is_of_checkpoints(name)
        )

    def _is_of_checkpoints(self, name: str) -> bool:
        return all(self.models[i].has_values for i in self.models_of(name))


def plan_merge(
    request: MergeRequest,
    locations: Sequence[ModelLocation],
    base: Path | None,
    tokenizer: Path | None = None,
) -> MergePlan:
    """Open all models and check that they fit. `base`: the base model's directory; without it
    (`linear`) the first model is the template. `tokenizer`: the folder of one that is named.

    Raises InputError and ModelError.
    """
    directory = base or locations[0].checkpoint or locations[0].base
    bare = [place for place in locations if place.adapters and not place.is_whole]
    without_base = [place for place in bare if base is None and place.base != directory]
    if directory is None or without_base:
        raise InputError(
            "an adapter has no weights of its own",
            found=", ".join(
                item.model
                for item, place in zip(request.inputs, locations, strict=True)
                if place in without_base
            ),
            expected="--base, the base model that it was trained from",
        )
    if request.tokenizer is None:
        _check_vocabularies(request, locations, directory)
    elif request.output:
        raise InputError(
            "an adapter has the tokenizer of its base model",
            found=f"tokenizer {request.tokenizer.source} for an adapter",
            expected="a whole model: --as model",
        )
    template = Checkpoint(directory)
    models = tuple(
        ViewedModel(place if place.is_whole else replace(place, base=directory), DELTA, template)
        for place in locations
    )
    untied = _untied(models, template)
    names = [*template.shapes, *untied]
    dtypes = {name: template.dtype(name) for name in names}
    if request.dtype:
        dtypes = dict.fromkeys(names, _NAMES[request.dtype])
    plan = MergePlan(request, models, template, directory, dtypes, untied)
    if request.tokenizer:
        tokens = plan_tokens(request, locations, template, models, directory, tokenizer)
        plan = _by_tokens(plan, tokens, template)
    for item, model in zip(request.inputs, plan.models, strict=True):
        _check_shapes(item.model, model, plan.shapes)
    return plan


def _by_tokens(plan: MergePlan, tokens: TokenPlan, template: Checkpoint) -> MergePlan:
    """The plan with the output's rows of tokens."""
    own, models = tokens.views(template, plan.models)
    shape = tokens.map.rows.shape
    untied = {n: shape(s) if is_of_tokens(n) else s for n, s in plan.untied.items()}
    return replace(plan, models=models, template=own, untied=untied, tokens=tokens)


def _check_vocabularies(
    request: MergeRequest, locations: Sequence[ModelLocation], template: Path
) -> None:
    """Refuse models whose rows of tokens belong to other tokens. Raises ModelError."""
    sides = [
        side
        for item, place in zip(request.inputs, locations, strict=True)
        for folder in (place.checkpoint, *([place.base] if place.is_whole else []))
        for side in places_of(item.model, place.adapters, folder)
        if side.directory != template
    ]
    check_vocabularies(Side(request.base or request.inputs[0].model, template), sides)


def _untied(models: Sequence[ViewedModel], template: Checkpoint) -> dict[str, Shape]:
    """The aliases of the template that are weights of their own in one of the models."""
    found: dict[str, Shape] = {}
    for alias, partner in template.aliases.items():
        names = set().union(*(model.untied_names(alias, partner) for model in models))
        if len(names) > 1:
            raise ModelError(
                "the models have two names for one weight",
                found=", ".join(sorted(names)),
                expected="one name in all models",
                todo="save one of the models again with the installed transformers",
            )
        found |= dict.fromkeys(names, template.shapes[partner])
    return found


def _check_shapes(name: str, model: ModelView, known: Mapping[str, Shape]) -> None:
    mine = model.shapes
    wrong = [
        f"{n}: {tuple(mine[n])}, base: {known.get(n, 'none')}"
        for n in mine
        if mine[n] != known.get(n)
    ]
    if model.is_checkpoint:
        wrong += [f"{n}: none" for n in known if not model.changes(n)]
    if wrong:
        more = f" and {len(wrong) - 5} more" if len(wrong) > 5 else ""
        raise ModelError(
            f"{name} does not fit the base model",
            found="; ".join(wrong[:5]) + more,
            expected="the tensors and shapes of the base model",
            todo="merge models that were trained from this base; where they have another number of "
            "rows for tokens, say which tokenizer the output has: --tokenizer",
        )
