"""What a study costs beside its trainings, as a plan counts it.

Model: each kind of cost is a row of `costs_of`: a list of values with a `line`, as a plan prints
it, and a `document`, as JSON has it.
Invariant: nothing is loaded and nothing is written.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from raylab.plan.asked import asked_beside, asked_finished
from raylab.plan.connectivity import line_costs
from raylab.plan.directions import directions_costs
from raylab.plan.finished_parents import FinishedParent
from raylab.plan.functions import function_costs
from raylab.plan.merges import Asked, sweep_counts
from raylab.plan.stored import distinct
from raylab.plan.trials import Inputs
from raylab.spec.study import Study


class Cost(Protocol):
    """One cost of a plan."""

    @property
    def line(self) -> str:
        """It as a plan prints it."""

    @property
    def document(self) -> dict[str, Any]:
        """It as JSON."""


def costs_of(study: Study, inputs: Inputs, asked: Sequence[Asked]) -> Mapping[str, Sequence[Cost]]:
    """The costs of all that is `asked`, by kind. Raises StudyError and ModelError."""
    finished = [item for item in asked if isinstance(item, FinishedParent)]
    planned = [item for item in asked if not isinstance(item, FinishedParent)]
    once = distinct(planned)
    return {
        "sweeps": sweep_counts(study),
        "asked_beside": asked_beside(study, inputs.rows, once),
        "asked_finished": asked_finished(study, inputs.rows, distinct(finished)),
        "functions": function_costs(study, inputs, once),
        "connectivity": line_costs(study, inputs, planned),
        "directions": directions_costs(study, inputs, planned),
    }
