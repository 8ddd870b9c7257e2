"""The tokens of a merge's output, planned: vocabularies, the map of rows, and the models under it.

Model: the template and every model are members. A checkpoint has the tokenizer in its folder. An
adapter has its own, where it moves rows of tokens and a tokenizer lies beside it, else that of the
base model under it. A model without a tokenizer has the base model's, and the account says so.
Invariant: an adapter's tokenizer and that of its base agree wherever both have a token. Nothing is
written before the map stands.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from raylab.errors import ModelError
from raylab.merge.output_vocabulary import (
    Member,
    OutputVocabulary,
    output_vocabulary,
)
from raylab.merge.token_map import TokenMap, map_tokens
from raylab.merge.tokenizer_files import write_tokenizer
from raylab.spec.merges import MergeRequest
from raylab.spec.vocabularies import (
    Side,
    check_vocabularies,
    has_rows_of_tokens,
    has_tokenizer,
    is_of_tokens,
    places_of,
)
from raylab.store.references import ModelLocation
from raylab.weights.checkpoint import Checkpoint, StoredWeights
from raylab.weights.mapped_rows import mapped
from raylab.weights.model_view import ModelView
from raylab.weights.safetensors_reader import Shape


@dataclass(frozen=True)
class TokenPlan:
    """The output's vocabulary and the map of rows that belongs to it."""

    output: OutputVocabulary
    map: TokenMap

    def views(
        self, template: Checkpoint, models: Sequence[ModelView]
    ) -> tuple[StoredWeights, tuple[ModelView, ...]]:
        """The template and the models with the output's rows."""
        return mapped(self.map.rows, template, models, is_of_tokens)

    def write(self, template: Path, part: Path) -> None:
        """Write the tokenizer into `part`, where the configs of `template` lie."""
        output = self.output
        write_tokenizer(output.frame, output.text, output.added, template, self.map.rows.rows, part)


def plan_tokens(
    request: MergeRequest,
    locations: Sequence[ModelLocation],
    template: Checkpoint,
    models: Sequence[ModelView],
    directory: Path,
    source: Path | None,
) -> TokenPlan:
    """directory: the template's; source: the folder of the tokenizer that the request names.

    Raises ModelError, and InputError for a token's row that no model of the merge has.
    """
    shapes = [model.shapes if model.is_checkpoint else template.shapes for model in models]
    return plan_vocabulary(request, locations, template.shapes, shapes, directory, source)


def plan_vocabulary(
    request: MergeRequest,
    locations: Sequence[ModelLocation],
    template: Mapping[str, Shape],
    shapes: Sequence[Mapping[str, Shape]],
    directory: Path,
    source: Path | None,
) -> TokenPlan:
    """The same by the shapes of the template and of each model, for an adapter the template's."""
    asked = request.tokenizer
    assert asked is not None
    rows = _rows_of(template, "the base model")
    is_listed = any(place.checkpoint == directory for place in locations)
    base = Member(
        request.base or str(directory), directory, rows, counts=bool(request.base) and not is_listed
    )
    members = [base]
    for item, place, own in zip(request.inputs, locations, shapes, strict=True):
        folder, is_assumed = _folder_of(item.model, place, directory)
        members.append(Member(item.model, folder, _rows_of(own, item.model), is_assumed=is_assumed))
    output = output_vocabulary(asked, members, source)
    return TokenPlan(output, map_tokens(asked, members, output, has_base=request.base is not None))


def _rows_of(shapes: Mapping[str, Shape], name: str) -> int:
    """How many rows all its matrices of tokens have."""
    counts = [shape[0] for tensor, shape in shapes.items() if is_of_tokens(tensor)]
    if not counts:
        raise ModelError(
            f"{name} has no embedding of a known name",
            found=", ".join([*shapes][:3]),
            expected="embed_tokens, wte, word_embeddings, embed_in or lm_head",
            todo="merge without a tokenizer setting: rows are then merged by id",
        )
    return min(counts)


def _folder_of(name: str, place: ModelLocation, template: Path) -> tuple[Path, bool]:
    """The folder of a model's tokenizer, and whether it is assumed to have the template's."""
    if place.checkpoint:
        has_own = has_tokenizer(place.checkpoint)
        return (place.checkpoint, False) if has_own else (template, True)
    start = place.base if place.is_whole and place.base else template
    check_vocabularies(
        Side(f"the base model of {name}", start), places_of(name, place.adapters, None)
    )
    moving = [path for path in place.adapters if has_tokenizer(path) and has_rows_of_tokens(path)]
    own = [*reversed(moving), start]
    return (own[0], False) if has_tokenizer(own[0]) else (template, start != template)
