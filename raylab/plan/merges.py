"""study -> merges: all merges of the study with their identities.

Model: a merge is planned like a trial. It has a name, an id, a folder, a row of the trials table,
and an identity: a flat mapping of everything that determines the merged weights. These are the
method and its parameters, the content of the base model, and for each model, in order, its
weight, its density and its id (for a finished model its content).
Invariant: merges come in the order of the study file. Equal identities have equal ids, whatever
the paths. If the id of a trial changes, so does the id of every merge of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from raylab.number_format import plural
from raylab.plan.document import Documented
from raylab.plan.finished_parents import FinishedParent
from raylab.plan.trials import Inputs, Trial, WithFolder
from raylab.spec.identity import fingerprint
from raylab.spec.merge_variants import (
    MergeVariant,
    Slot,
    expand_merges,
    merge_members,
    merge_name,
    merge_slots,
    merge_variants_of,
)
from raylab.spec.merges import MergeRequest
from raylab.spec.recipes import Variant, trial_name
from raylab.spec.seeds import Seeds
from raylab.spec.study import FinishedModel, Study
from raylab.spec.swept_names import written

FORMAT = 1


@dataclass(frozen=True)
class PlannedMerge(WithFolder):
    """One planned merge. `request` names its models and its base as the study does.

    needs: the names of its models that are trials; they must be done before.
    """

    name: str
    id: str
    base_model: str
    merge: str
    label: str
    data: tuple[str, ...]
    seed: Seeds | None
    request: MergeRequest
    needs: tuple[str, ...]
    identity: Mapping[str, Any] = field(repr=False)
    provisional: bool = False
    stored_as: str = ""

    @property
    def is_adapter(self) -> bool:
        """Whether it is written as an adapter, not as a whole model."""
        return self.request.output is not None

    @property
    def row(self) -> dict[str, Any]:
        """The columns of the trials table that are known before the merge."""
        return {
            "trial_id": self.id,
            "name": self.name,
            "model": self.base_model,
            "recipe": self.merge,
            "label": self.label,
            "method": self.request.method,
            "data": "+".join(self.data),
            **(self.seed.columns if self.seed else {}),
        }


Planned = Trial | PlannedMerge
"""Anything with a row in the trials table."""
Asked = Planned | FinishedParent
"""Anything with a record: it is trained, made or neither, and asked."""


def dependencies_of(planned: Asked) -> tuple[str, ...]:
    """The names of the trials that must be done before `planned`."""
    if isinstance(planned, FinishedParent):
        return ()
    if isinstance(planned, PlannedMerge):
        return planned.needs
    return (planned.parent,) if planned.parent else ()


def plan_merges(study: Study, inputs: Inputs, trials: Sequence[Trial]) -> list[PlannedMerge]:
    """All merges of `study`, whose trials are `trials`."""
    by_name = {trial.name: trial for trial in trials}
    return [
        _plan_merge(study, inputs, by_name, variant, slot)
        for variant in expand_merges(study).values()
        for slot in merge_slots(study, variant.settings)
    ]


@dataclass(frozen=True)
class SweepCount(Documented):
    """How many merges the sweep of one merge of the study makes. values: by setting."""

    merge: str
    values: Mapping[str, Sequence[Any]]
    merges: int

    @property
    def document(self) -> dict[str, Any]:
        """It as JSON."""
        values = {key: list(found) for key, found in self.values.items()}
        return {**super().document, "values": values}

    @property
    def line(self) -> str:
        """It as a plan prints it."""
        listed = (f"{key} {', '.join(map(written, found))}" for key, found in self.values.items())
        return f"sweep of {self.merge}: {plural(self.merges, 'merge')} ({'; '.join(listed)})"


def sweep_counts(study: Study) -> list[SweepCount]:
    """The number of merges of each sweep, over its values, base models and seeds."""
    found = []
    for name, merge in study.merges.items():
        if merge.sweep:
            made = [len(merge_slots(study, v.settings)) for v in merge_variants_of(study, name)]
            found.append(SweepCount(name, merge.sweep, sum(made)))
    return found


def kin_of(merges: Iterable[PlannedMerge]) -> Iterator[tuple[str, str]]:
    """(merge, model) for every model that a merge is made of, each once, in order."""
    for merge in merges:
        for name in dict.fromkeys(item.model for item in merge.request.inputs):
            yield merge.name, name


def _plan_merge(
    study: Study, inputs: Inputs, trials: Mapping[str, Trial], variant: MergeVariant, slot: Slot
) -> PlannedMerge:
    base, seed = slot
    settings, base_place = variant.settings, study.base_models[base]
    members = merge_members(study, settings)
    pairs = list(zip(members, settings.models, strict=True))
    names = [_name(member, name, slot) for member, name in pairs]
    request = settings.request(names, base_place.hub or base)
    named = [*names, request.tokenizer.source if request.tokenizer else ""]
    found = [inputs.base_models[base], *(inputs.models[n] for n in named if n in inputs.models)]
    ids = [trials[n].id if n in trials else inputs.models[n].identity for n in names]
    identity = {
        "base_model": found[0].identity,
        **_identity(request, ids),
        **_tokenizer_identity(request, inputs, dict(zip(names, ids, strict=True))),
    }
    labels = [
        member.label if isinstance(member, Variant) else name
        for member, name in zip(members, names, strict=True)
    ]
    at = (f"{key} {written(value)}" for key, value in variant.point.items())
    return PlannedMerge(
        name=merge_name(variant.name, slot),
        id=fingerprint(identity),
        base_model=base,
        merge=variant.name,
        label=", ".join([f"{request.method.upper().replace('_', '-')}({', '.join(labels)})", *at]),
        data=tuple(dict.fromkeys(member.data for member in members)),
        seed=seed,
        request=request,
        needs=tuple(dict.fromkeys(name for name in names if name in trials)),
        identity=identity,
        provisional=any(model.provisional for model in found),
    )


def _identity(request: MergeRequest, ids: Sequence[str]) -> dict[str, Any]:
    models: dict[str, Any] = {}
    for number, (item, id) in enumerate(zip(request.inputs, ids, strict=True), 1):
        models[f"model.{number}"] = id
        models[f"model.{number}.weight"] = item.weight
        models[f"model.{number}.density"] = item.density
    output = request.output
    # Merges to whole models keep the identities that they had before there were others. Adapters of
    # one rank have another than those that had a rank for each layer, which are made again.
    asked = {} if output is None else {**asdict(output), "one_rank": True}
    form = {f"merge.as_adapter.{key}": value for key, value in asked.items()}
    return {
        "format": FORMAT,
        "merge.method": request.method,
        "merge.scope": request.scope,
        "merge.lambda": request.scaling,
        "merge.seed": request.seed,
        "merge.normalize": request.normalize,
        **{f"merge.{name}": value for name, value in request.parameters.items()},
        **form,
        **models,
    }


def _tokenizer_identity(
    request: MergeRequest, inputs: Inputs, ids: Mapping[str, str]
) -> dict[str, Any]:
    """Nothing where rows are merged by id, and the source alone where no more is asked: such merges
    keep the identities that they had before. ids: of the models, by name."""
    asked = request.tokenizer
    if asked is None:
        return {}
    model = inputs.models.get(asked.source)
    found: dict[str, Any] = {"merge.tokenizer": model.identity if model else asked.source}
    if asked.pad_to != 1:
        found["merge.tokenizer.pad_to_multiple_of"] = asked.pad_to
    for token, row in asked.tokens.items():
        # A model that is none of the merge's is its base model.
        of = row and [ids.get(row.model, "base") if row.model else None, row.token, row.force]
        found[f"merge.tokenizer.tokens.{token}"] = of
    if len(asked.tokens) > 1:
        found["merge.tokenizer.order"] = [*asked.tokens]
    return found


def _name(member: Variant | FinishedModel, name: str, slot: Slot) -> str:
    base, seed = slot
    if isinstance(member, FinishedModel):
        return name
    assert seed is not None, "trials have seeds"
    return trial_name(base, member.name, seed)
