"""What the tokenizers that merges of a study name give their outputs, before anything trains.

Model: merges of one base model that name one tokenizer and take the same finished models have the
same tokens; a trial has those of its base model. The vocabulary is put together as the merge will
do it (`raylab.merge.token_plan`).
Invariant: only headers and tokenizers are read. Of a model that is not on this machine nothing is
known.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from raylab.plan.document import Documented
from raylab.plan.merges import PlannedMerge
from raylab.plan.trials import Inputs
from raylab.results.left_out import some_of
from raylab.spec.merges import MergeRequest
from raylab.spec.vocabularies import is_of_tokens
from raylab.store.references import ModelLocation, location_of


@dataclass(frozen=True)
class OutputTokens(Documented):
    """The tokens of some merges of one base model. tokenizer: as the study names it; moved: tokens
    of the base model that have another id. Numbers are None where a model is not on this machine.
    """

    base_model: str
    tokenizer: str
    merges: tuple[str, ...]
    tokens: int | None = None
    rows: int | None = None
    rows_of_base: int | None = None
    moved: int | None = None

    @property
    def line(self) -> str:
        """It as a plan prints it."""
        named = f"tokenizer {self.tokenizer} of {some_of(self.merges)}"
        if self.tokens is None:
            return f"{named}: its tokens are known when all models are on this machine"
        counted = f"{self.tokens:,} tokens in {self.rows:,} rows"
        if self.rows != self.rows_of_base:
            rest = f"no comparison takes them, as {self.base_model} has {self.rows_of_base:,} rows"
        elif self.moved:
            rest = f"rows are compared by id, and {self.moved:,} tokens have other ids there"
        else:
            rest = f"the tokens of {self.base_model} keep their rows"
        return f"{named}: {counted}; {rest}"


def output_tokenizers(merges: Sequence[PlannedMerge], inputs: Inputs) -> list[OutputTokens]:
    """What the tokenizers that `merges` name give their outputs; none where none names one.

    Raises ModelError where one cannot be read, or gives no vocabulary.
    """
    groups: dict[tuple[Any, ...], list[PlannedMerge]] = {}
    for merge in merges:
        if asked := merge.request.tokenizer:
            finished = tuple(i.model for i in merge.request.inputs if i.model in inputs.models)
            key = (merge.base_model, asked.source, finished, _asked_rows(merge.request))
            groups.setdefault(key, []).append(merge)
    found = []
    for (base, source, *_), of_group in groups.items():
        names = tuple(merge.name for merge in of_group)
        found.append(OutputTokens(base, source, names, **_counts(of_group[0], inputs)))
    return found


def _asked_rows(request: MergeRequest) -> tuple[Any, ...]:
    """What is asked beside the source, with the places of models for their names, which differ from
    seed to seed."""
    asked = request.tokenizer
    assert asked, "it names a tokenizer"
    places = {item.model: place for place, item in enumerate(request.inputs)}
    rows = (
        (token, row and (places.get(row.model or ""), row.model is None, row.token, row.force))
        for token, row in asked.tokens.items()
    )
    return asked.pad_to, *rows


def _counts(merge: PlannedMerge, inputs: Inputs) -> dict[str, int]:
    """The numbers of `OutputTokens`; none where a model is not on this machine."""
    from raylab.merge.named_models import tokenizer_folder
    from raylab.merge.output_vocabulary import known_vocabulary
    from raylab.merge.token_plan import plan_vocabulary
    from raylab.weights import Checkpoint

    request, base = merge.request, inputs.base_models[merge.base_model].directory
    assert request.tokenizer, "it names a tokenizer"
    source = request.tokenizer.source
    named = {*(item.model for item in request.inputs), source} & inputs.models.keys()
    places = {name: inputs.models[name].directory for name in named}
    if base is None or None in places.values():
        return {}
    found = {name: location_of(place, base) for name, place in places.items() if place}
    locations = [found.get(item.model, ModelLocation(base=base)) for item in request.inputs]
    template = Checkpoint(base).shapes
    shapes = [Checkpoint(p.checkpoint).shapes if p.checkpoint else template for p in locations]
    folder = tokenizer_folder(source, found[source], base) if source in found else None
    plan = plan_vocabulary(request, locations, template, shapes, base, folder)
    ids = plan.output.ids
    return {
        "tokens": len(ids),
        "rows": plan.map.rows.rows,
        "rows_of_base": min(shape[0] for name, shape in template.items() if is_of_tokens(name)),
        "moved": sum(ids.get(token) != id for token, id in known_vocabulary(base).items()),
    }
