"""Finished models that merges are made of: they are asked what their merges are asked.

Model: a finished model of the study that a merge takes is planned like a merge. It has a name, an
id and a folder, and its record holds its answers and likelihoods. Nothing is trained or made: the
identity is all that decides what it answers, which is its content, that of its base model, and how
adapters are held. It has no row of the trials table.
Invariant: they come in the order of the study file, each once. A study without held-out rows has
nothing to ask them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from raylab.plan.trials import Inputs, WithFolder
from raylab.spec.data.held_out import held_out_by_data
from raylab.spec.identity import fingerprint
from raylab.spec.merge_variants import finished_parents
from raylab.spec.seeds import Seeds
from raylab.spec.study import Study

FORMAT = 1


@dataclass(frozen=True)
class FinishedParent(WithFolder):
    """A finished model that is asked. data: its own data set, then those of the models that it is
    merged with; method: as the study names it."""

    name: str
    id: str
    base_model: str
    method: str
    data: tuple[str, ...]
    seed: Seeds | None
    identity: Mapping[str, Any] = field(repr=False)
    provisional: bool = False
    stored_as: str = ""

    @property
    def row(self) -> dict[str, Any]:
        """What is known of it before it is asked, by the names of a trial's columns."""
        return {
            "trial_id": self.id,
            "name": self.name,
            "model": self.base_model,
            "recipe": self.name,
            "label": self.name,
            "method": self.method,
            "data": self.data[0],
            **(self.seed.columns if self.seed else {}),
        }


def plan_finished_parents(study: Study, inputs: Inputs) -> list[FinishedParent]:
    """The finished models of `study` that a merge takes, where there is anything to ask them."""
    if not held_out_by_data(study, inputs.rows):
        return []
    return [_plan(study, inputs, name, data) for name, data in finished_parents(study).items()]


def _plan(study: Study, inputs: Inputs, name: str, data: Sequence[str]) -> FinishedParent:
    model, found = study.models[name], inputs.models[name]
    base = inputs.base_models[model.base_model]
    template = study.base_models[model.base_model].template
    identity = {
        "format": FORMAT,
        "base_model": base.identity,
        "model": found.identity,
        "chat_template": fingerprint(template) if template else None,
        "template_date": study.template_date.isoformat(),
        **{f"quantization.{key}": value for key, value in study.quantization},
    }
    return FinishedParent(
        name=name,
        id=fingerprint(identity),
        base_model=model.base_model,
        method=model.method,
        data=tuple(data),
        seed=model.seed,
        identity=identity,
        provisional=base.provisional or found.provisional,
    )
