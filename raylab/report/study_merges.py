"""The merges of a study, with the models that each is made of and their data.

Model: a merge of the study file, at one point of its sweep, over one base model and seed, is one
StudyMerge. Its parents are the models that it is made of.
Invariant: names are those of the tables; nothing is read.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from raylab.spec.merge_variants import Slot, expand_merges, merge_members, merge_name, merge_slots
from raylab.spec.recipes import Variant, trial_name
from raylab.spec.study import FinishedModel, Study
from raylab.spec.swept_names import written


@dataclass(frozen=True)
class Parent:
    """One model of a merge. recipe: its name without the seed. data: the data set that it learned;
    parts: the data sets that this one is made of, itself if of none; empty where the study has no
    such data."""

    name: str
    recipe: str
    data: str
    parts: tuple[str, ...]


@dataclass(frozen=True)
class StudyMerge:
    """One merge over one base model and seed. merge: its name in the study file; point: its place
    in the sweep; prompts_of: the data set whose prompts it answers for the trials table."""

    name: str
    base_model: str
    merge: str
    point: Mapping[str, Any]
    parents: tuple[Parent, ...]
    prompts_of: str

    @property
    def label(self) -> str:
        """The merge with the values of its sweep, as the study writes them."""
        return _label(self.merge, self.point)

    def label_without(self, setting: str) -> str:
        """The same without one setting: the name of a curve over it."""
        return _label(self.merge, {k: v for k, v in self.point.items() if k != setting})


def _label(merge: str, point: Mapping[str, Any]) -> str:
    at = ", ".join(f"{key} {written(value)}" for key, value in point.items())
    return f"{merge} {at}".rstrip()


def merges_of(study: Study) -> list[StudyMerge]:
    """Every merge of `study`, in the order of the plan."""
    return list(_merges_of(study))


def _merges_of(study: Study) -> Iterator[StudyMerge]:
    for name, variant in expand_merges(study).items():
        members = merge_members(study, variant.settings)
        named = list(zip(variant.settings.models, members, strict=True))
        asked = next((m.data for m in members if m.data in study.data), next(iter(study.data)))
        for slot in merge_slots(study, variant.settings):
            parents = {p.name: p for p in (_parent(study, n, m, slot) for n, m in named)}
            made = merge_name(name, slot)
            point, all_parents = variant.point, tuple(parents.values())
            yield StudyMerge(made, slot[0], variant.merge, point, all_parents, asked)


def _parent(study: Study, name: str, member: Variant | FinishedModel, slot: Slot) -> Parent:
    base, seed = slot
    data = study.data.get(member.data)
    parts: Sequence[str] = () if data is None else data.concat or (member.data,)
    if isinstance(member, FinishedModel):
        return Parent(name, name, member.data, tuple(parts))
    assert seed is not None, "trials have seeds"
    trial = trial_name(base, member.name, seed)
    return Parent(trial, f"{base}.{member.name}", member.data, tuple(parts))
