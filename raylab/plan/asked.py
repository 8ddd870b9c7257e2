"""What models are asked: the held-out prompts of which data sets.

Model: a model answers the prompts of its own data; a merge those of its first trial's. Beside
these, a merge and every model that it is made of answer the prompts of all data sets that models
of the merge were trained on, so that each parent stands beside its merge on equal prompts. Data
sets with the same prompts (as D0 and D1 in two styles) are asked once: prompts are known by their
fingerprint, which no answer enters.
Invariant: what is asked beside depends on the study and its rows alone; a study without merges
asks nothing beside.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from raylab.number_format import plural
from raylab.plan.document import Documented
from raylab.plan.finished_parents import FinishedParent
from raylab.plan.merges import Asked
from raylab.plan.trials import Trial
from raylab.spec.data.held_out import Prompts, held_out_answers, held_out_prompts
from raylab.spec.data.rows import Row
from raylab.spec.identity import fingerprint
from raylab.spec.merge_variants import merge_members
from raylab.spec.study import Study


def data_asked(planned: Asked, names: Collection[str]) -> str:
    """The data set whose held-out prompts a model answers as its own, of those with `names`."""
    if isinstance(planned, Trial):
        return planned.variant.data
    # The data of its first model; finished models may name data that the study does not have.
    return next((name for name in planned.data if name in names), next(iter(names)))


@dataclass(frozen=True)
class MergePrompts:
    """The prompts that the models of merges answer.

    prompts: by data set that a model of a merge was trained on; ids: their fingerprints. names: all
    data sets of the study.
    """

    prompts: Mapping[str, Prompts] = field(default_factory=dict)
    ids: Mapping[str, str] = field(default_factory=dict)
    names: Sequence[str] = ()

    def beside(self, planned: Asked) -> dict[str, Prompts]:
        """The prompts that `planned` answers beside those of its own data, by fingerprint."""
        own = self.own(planned)
        sets = planned.partners if isinstance(planned, Trial) else planned.data
        found = {self.ids[name]: self.prompts[name] for name in self.ids if name in sets}
        return {id: prompts for id, prompts in found.items() if id != own and prompts}

    def own(self, planned: Asked) -> str | None:
        """The fingerprint of the prompts of its own data, where models of merges are asked them."""
        return self.ids.get(data_asked(planned, self.names)) if self.names else None

    def needed(self, planned: Iterable[Asked]) -> dict[str, Collection[str]]:
        """What each of `planned` is asked beside its own data, by its name."""
        return {item.name: tuple(self.beside(item)) for item in planned}


NOTHING_BESIDE = MergePrompts()
"""Of a study without merges."""


def merge_prompts(study: Study, rows: Mapping[str, Sequence[Row]]) -> MergePrompts:
    """What the merges of `study` and their models are asked; `rows` by data set."""
    members = [member for merge in study.merges.values() for member in merge_members(study, merge)]
    sets = [name for name in rows if any(name == member.data for member in members)]
    most = study.evaluation.prompts
    prompts = {name: held_out_prompts(rows[name], study.held_out, most) for name in sets}
    ids = {name: fingerprint(list(map(_question, found))) for name, found in prompts.items()}
    return MergePrompts(prompts, ids, tuple(rows))


def _question(row: Row) -> list[Any]:
    return [row.chat, row.tools_given]


@dataclass(frozen=True)
class AskedBeside(Documented):
    """How many answers the models of merges over one base model give beside their own."""

    base_model: str
    models: int
    answers: int

    @property
    def line(self) -> str:
        """The cost as a plan prints it."""
        return (
            f"merges of {self.base_model}: {plural(self.models, 'model')} answer the prompts of "
            f"each other's data: {self.answers:,} answers"
        )


@dataclass(frozen=True)
class AskedFinished(Documented):
    """How many answers the finished models that merges take give over one base model, and of how
    many held-out answers the likelihood is measured in all."""

    base_model: str
    models: int
    answers: int
    likelihoods: int

    @property
    def line(self) -> str:
        """The cost as a plan prints it."""
        return (
            f"finished models of {self.base_model} that merges take: {self.models}, which are "
            f"asked for {self.answers:,} answers and the likelihood of {self.likelihoods:,}"
        )


def asked_finished(
    study: Study, rows: Mapping[str, Sequence[Row]], models: Sequence[FinishedParent]
) -> list[AskedFinished]:
    """What the finished models of merges are asked over each base model; none where there are
    none."""
    found, most = merge_prompts(study, rows), study.evaluation.prompts
    measured = sum(map(len, held_out_answers(study, rows).values()))
    asked = []
    for base in dict.fromkeys(model.base_model for model in models):
        of_base = [model for model in models if model.base_model == base]
        own = (held_out_prompts(rows[data_asked(m, rows)], study.held_out, most) for m in of_base)
        beside = (prompts for model in of_base for prompts in found.beside(model).values())
        answers = sum(map(len, [*own, *beside])) * (1 + study.evaluation.sampled)
        asked.append(AskedFinished(base, len(of_base), answers, measured * len(of_base)))
    return asked


def asked_beside(
    study: Study, rows: Mapping[str, Sequence[Row]], planned: Sequence[Asked]
) -> list[AskedBeside]:
    """What is asked beside over each base model; none where nothing is."""
    found, asked = merge_prompts(study, rows), []
    for base in study.base_models:
        sets = [found.beside(item).values() for item in planned if item.base_model == base]
        answers = sum(len(prompts) for each in sets for prompts in each)
        if answers:
            models = sum(bool(each) for each in sets)
            asked.append(AskedBeside(base, models, answers * (1 + study.evaluation.sampled)))
    return asked
