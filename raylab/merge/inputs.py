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
from typing import Any

from raylab.errors import InputError, ModelError
from raylab.merge.arrangement import Arrangement, arrange, spots_in
from raylab.merge.output_template import OutputTemplate, choose_template
from raylab.merge.slice_config import config_of_slices
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
from raylab.weights.safetensors_reader import Rows
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
    arrangement: Arrangement
    dtypes: Mapping[str, str]
    untied: Mapping[str, Shape] = field(default_factory=dict)
    """The output's tensors that the template has only as other names of its own."""
    tokens: TokenPlan | None = None
    """What gives the output's rows their tokens, where the request asks for a tokenizer."""
    chat_template: OutputTemplate | None = None
    """That of the output, where the request asks for one."""
    config: Mapping[str, Any] | None = None
    """config.json; None where it is the template's, but for what the tokenizer asks for."""

    @cached_property
    def shapes(self) -> Mapping[str, Shape]:
        """The output's tensors."""
        return {name: origin.shape for name, origin in self.arrangement.items()}

    @cached_property
    def settings(self) -> Mapping[str, TensorSettings]:
        """What each tensor is merged with. Raises InputError where a setting does not fit."""
        of_inputs = [spots_in(self.arrangement, number) for number in range(len(self.models))]
        return settings_of(self.request, spots_in(self.arrangement), of_inputs)

    @property
    def tensors(self) -> list[TensorSpec]:
        """The output's tensors, as files hold them."""
        return [TensorSpec(n, self.dtypes[n], shape) for n, shape in self.shapes.items()]

    def models_of(self, name: str) -> list[int]:
        """The indices of the models that change the tensor and keep entries of it; all,
        if any does, where the method combines values, whole tensors or matrices."""
        densities = self.settings[name].densities
        sources, base = self.arrangement[name].sources, self.arrangement[name].base
        changing = [
            i
            for i, own in sources.items()
            if densities[i] and (self.models[i].changes(own) or base != (None, own))
        ]
        looks_at_all = self.request.of_values or self.request.row.combines != "entries"
        if looks_at_all and (changing or self._scales(name)):
            return list(sources)
        return changing

    def is_carried_over(self, name: str) -> bool:
        """Whether the method gives the one checkpoint that changes the tensor, as it is."""
        request, settings = self.request, self.settings[name]
        takes_one = (
            request.of_values and request.row.most == 1 and settings.keeps_equal(request.row)
        )
        models = self.models_of(name) if takes_one and settings.scaling == 1 else []
        return len(models) == 1 and self.models[models[0]].is_checkpoint

    def _scales(self, name: str) -> bool:
        """Whether models that are alike give another tensor than theirs."""
        row = self.request.row
        return self.request.of_values and not self.settings[name].keeps_equal(row)

    def base_rows(self, piece: Piece) -> Rows:
        """The rows of the base, 2-D in their dtype; not to be written to."""
        name, *rows = piece
        model, tensor = self.arrangement[name].base
        weights = self.template if model is None else self.models[model]
        return weights.stored(tensor, *rows)

    def own_base_rows(self, model: int, piece: Piece) -> Rows | None:
        """The rows that an adapter is added to, where they are not those of the base."""
        name, *rows = piece
        origin = self.arrangement[name]
        tensor = origin.sources[model]
        return None if origin.base == (None, tensor) else self.template.stored(tensor, *rows)

    def source_of(self, model: int, piece: Piece) -> Piece:
        """The piece of an input's own tensor."""
        name, start, stop = piece
        return self.arrangement[name].sources[model], start, stop

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
                if place in (without_base or bare)
            ),
            expected="the base model that it was trained from: --base, or base_model in a file",
        )
    if request.tokenizer is None:
        _check_vocabularies(request, locations, directory)
    if request.output and request.chat_template:
        raise InputError(
            "an adapter has the chat template of its base model",
            found="chat_template for an adapter",
            expected="a whole model: --as model",
        )
    if request.output and request.tokenizer:
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
    untied = _untied(_last(request, models), template)
    own: StoredWeights = template
    views: tuple[ModelView, ...] = models
    tokens: TokenPlan | None = None
    if request.tokenizer:
        tokens = plan_tokens(request, locations, template, models, directory, tokenizer)
        own, views = tokens.views(template, models)
        shape = tokens.map.rows.shape
        untied = {n: shape(s) if is_of_tokens(n) else s for n, s in untied.items()}
    arrangement = arrange(request, own, views, {**own.shapes, **untied})
    dtypes = {n: _dtype(origin.base, template, models) for n, origin in arrangement.items()}
    if request.dtype:
        dtypes = dict.fromkeys(arrangement, _NAMES[request.dtype])
    config = config_of_slices(request, arrangement, directory, template.shapes, locations)
    frame = tokens.output.frame if tokens else directory
    asks = request.chat_template is not None
    plan = MergePlan(
        request,
        views,
        own,
        directory,
        arrangement,
        dtypes,
        untied,
        tokens,
        choose_template(request, locations, directory, frame) if asks else None,
        config,
    )
    for item, model in zip(request.inputs, plan.models, strict=True):
        if not request.slices:
            _check_shapes(item.model, model, plan.shapes)
    return plan


def _last(request: MergeRequest, models: Sequence[ViewedModel]) -> list[ViewedModel]:
    """The models that an output head comes from: those of the last slice of a module."""
    last = {part.module: part for part in request.slices}
    numbers = [one.model for part in last.values() for one in part.sources]
    return [models[number] for number in numbers] if last else [*models]


def _dtype(
    base: tuple[int | None, str], template: Checkpoint, models: Sequence[ViewedModel]
) -> str:
    model, tensor = base
    own = None if model is None else models[model].checkpoint
    if own is None and tensor not in template.shapes and not template.is_alias(tensor):
        return "F32"
    return (own or template).dtype(tensor)


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
