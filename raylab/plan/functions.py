"""What it costs to compare what models predict, and whether there is anything to compare on.

Model: the models of a base model, itself among them, are compared on answers: the held-out ones
of every data set, and the greedy ones of each trial and merge to its first `OWN_PROMPTS`
questions. Each answer goes through each model once.
Invariant: nothing is loaded. The passes of a plan are those of a store that holds none of it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from raylab.errors import StudyError
from raylab.plan.asked import data_asked
from raylab.plan.document import Documented
from raylab.plan.merges import Planned
from raylab.plan.trials import Inputs
from raylab.spec.data.held_out import Prompts, held_out_by_data, held_out_prompts
from raylab.spec.data.rows import Row
from raylab.spec.study import Study

MEASURES = ("kl_ab", "kl_ba", "js", "top1_agreement", "l_next")
"""What is measured at each token, as the table of functions names it."""
OWN_PROMPTS = 8
"""How many greedy answers of each model all others are held against. Their number times the
square of the number of models is the number of passes."""


@dataclass(frozen=True)
class FunctionCost(Documented):
    """The answers over one base model, and the forward passes of all of its models over them."""

    base_model: str
    models: int
    held_out: int
    own: int

    @property
    def passes(self) -> int:
        """Forward passes, one answer each."""
        return self.models * (self.held_out + self.own)

    @property
    def document(self) -> dict[str, Any]:
        """The cost as JSON."""
        return {**super().document, "passes": self.passes}

    @property
    def line(self) -> str:
        """The cost as a plan prints it."""
        return (
            f"functions of {self.base_model}: {self.models} models x ({self.held_out} held-out + "
            f"at most {self.own} own answers) = {self.passes:,} forward passes"
        )


def compared_answers(study: Study, rows: Mapping[str, Sequence[Row]]) -> dict[str, Prompts]:
    """The held-out answers of every data set on which models are compared; none where the study
    does not compare what models predict. Raises StudyError where it asks for it on no answer."""
    is_asked = study.evaluation.functions
    if is_asked is False:
        return {}
    found = held_out_by_data(study, rows)
    if is_asked and not found:
        raise StudyError(
            "evaluation.functions asks how models differ on held-out answers, and there are none",
            found=f"held_out {study.held_out:g}, evaluation.prompts {study.evaluation.prompts}",
            expected="a held-out row, and one prompt or more",
            todo="raise `held_out` or `prompts`, or take `functions` out of `evaluation`",
        )
    return found


def questions_answered(
    study: Study, rows: Mapping[str, Sequence[Row]], planned: Planned
) -> Prompts:
    """The questions of a trial or a merge whose answers all models are held against."""
    most = min(OWN_PROMPTS, study.evaluation.prompts)
    return held_out_prompts(rows[data_asked(planned, rows)], study.held_out, most)


def function_costs(study: Study, inputs: Inputs, planned: Sequence[Planned]) -> list[FunctionCost]:
    """The cost for each base model; none where nothing is compared. Raises StudyError."""
    held_out = sum(map(len, compared_answers(study, inputs.rows).values()))
    costs = []
    for base in study.base_models if held_out else ():
        of_base = [item for item in planned if item.base_model == base]
        finished = sum(model.base_model == base for model in study.models.values())
        if of_base or finished:
            own = sum(len(questions_answered(study, inputs.rows, item)) for item in of_base)
            costs.append(FunctionCost(base, len(of_base) + finished + 1, held_out, own))
    return costs
