"""The merges of a study as they will be made: of which models, over which base, at which seed.

Model: a model of a merge is one variant of a recipe, or a finished model. A merge is made once
for each base model and seed that have all its models: recipes are trained on every base model
with every seed; a finished model has one base model, and is at home at its seed, or at every
seed where it names none. A merge of finished models alone is made once.
Invariant: the order follows the study file alone; for a study without problems
(`raylab.spec.validation`) every merge is made at least once.
"""

from __future__ import annotations

from raylab.spec.recipes import Variant, variants_of
from raylab.spec.study import FinishedModel, Merge, Study

Slot = tuple[str, int | None]
"""A base model, and a seed where there is one."""


def members_of(study: Study, merge: Merge) -> list[Variant | FinishedModel]:
    """The models that are merged, in order."""
    return [_member(study, name) for name in merge.models]


def _member(study: Study, name: str) -> Variant | FinishedModel:
    if name in study.models:
        return study.models[name]
    (variant,) = variants_of(study, name)
    return variant


def slots_of(study: Study, merge: Merge) -> list[Slot]:
    """Where the merge is made."""
    members = members_of(study, merge)
    finished = [member for member in members if isinstance(member, FinishedModel)]
    bases = {member.base_model for member in finished}
    seeds = {member.seed for member in finished if member.seed is not None}
    is_trained = len(finished) < len(members)
    wanted = study.seeds if is_trained else tuple(seeds) or (None,)
    return [
        (base, seed)
        for base in study.base_models
        for seed in wanted
        if bases <= {base} and seeds <= {seed}
    ]


def merge_name(merge: str, slot: Slot) -> str:
    """What the merge is called there: like a trial, without a seed where it has none."""
    base, seed = slot
    return f"{base}.{merge}" if seed is None else f"{base}.{merge}.s{seed}"
