"""Refuses finished models whose tokens do not fit what a study asks of them.

Model: comparisons, and merges that name no `tokenizer:`, take rows of tokens by their id. So
tokens need one id in the models of a merge, and a matrix of tokens as many rows as that of the base
model. A merge with `tokenizer:` takes models with other tokens; then all that the study asks of
these models is known to leave out what has no counterpart.
Invariant: only headers and tokenizers are read. Of a model that is not on this machine nothing is
known.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from raylab.errors import ModelError
from raylab.plan.comparisons import plan_comparisons, plan_models
from raylab.plan.merges import Planned, PlannedMerge
from raylab.plan.trials import Inputs
from raylab.spec.study import Study
from raylab.spec.vocabularies import Side, check_vocabularies, places_of, rows_of_tokens

_LEAVE_OUT = (
    "leave it out of `comparisons` (name the others where it says `all`); `raylab diff A B "
    "--mismatch crop` compares the rows that both have, and a merge takes it with `tokenizer:`"
)


def check_tokenizers(merges: Sequence[PlannedMerge], inputs: Inputs) -> None:
    """Refuse merges of finished models whose tokenizers do not agree, where rows are merged by id.

    Raises ModelError.
    """
    for merge in merges:
        if merge.request.tokenizer:
            continue
        base = inputs.base_models[merge.base_model]
        sides = [
            side
            for name in finished_models(merge, inputs)
            if (directory := inputs.models[name].directory)
            for side in places_of(name, (directory,), None)
        ]
        if base.directory and sides:
            check_vocabularies(Side(base.name, base.directory), sides)


def check_rows(study: Study, inputs: Inputs, planned: Sequence[Planned]) -> None:
    """Refuse finished models with more or fewer rows of tokens than their base model has, where
    rows are merged or compared by id. Raises ModelError."""
    merges = [item for item in planned if isinstance(item, PlannedMerge)]
    by_id = {
        name: f"the merge {merge.name}"
        for merge in merges
        if not merge.request.tokenizer
        for name in finished_models(merge, inputs)
    }
    for name in by_id:
        if other := _other_rows(study, inputs, name):
            raise _refusal(name, other, by_id[name], "give the merge a `tokenizer:` for its output")
    foreseen = {name for m in merges if m.request.tokenizer for name in finished_models(m, inputs)}
    for comparison in plan_comparisons(study, plan_models(study, planned)):
        for side in (comparison.a, comparison.b):
            if side.name not in inputs.models or side.name in foreseen:
                continue
            if other := _other_rows(study, inputs, side.name):
                raise _refusal(side.name, other, f"the comparison {comparison.name}", _LEAVE_OUT)


def finished_models(merge: PlannedMerge, inputs: Inputs) -> list[str]:
    """The finished models that `merge` takes, in order, each once."""
    return [n for n in dict.fromkeys(i.model for i in merge.request.inputs) if n in inputs.models]


def _other_rows(study: Study, inputs: Inputs, name: str) -> str | None:
    """The first matrix of tokens that has another number of rows than in the base model."""
    directory = inputs.models[name].directory
    base = inputs.base_models[study.models[name].base_model].directory
    return next(_unlike(directory, base), None) if directory and base else None


def _unlike(directory: Path, base: Path) -> Iterator[str]:
    known = rows_of_tokens(base)
    for module, shapes in rows_of_tokens(directory).items():
        wanted = known.get(module, shapes)
        have_columns = any(one[1:] == other[1:] for one in shapes for other in wanted)
        if have_columns and not shapes & wanted:
            yield f"{module} {min(shapes)}, {min(wanted)} in the base model"


def _refusal(name: str, found: str, where: str, todo: str) -> ModelError:
    return ModelError(
        f"the model {name} has other rows of tokens than its base model, and {where} takes it",
        found=found,
        expected="as many rows: rows of tokens are taken by their id",
        todo=todo,
    )
