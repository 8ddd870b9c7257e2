"""The names that a study gives to the results in its OUT: plan.json beside study.yaml.

Model: a driver writes the plan of its study when it begins: each trial, merge and finished model
that is asked with its name, its id, its base model and its data sets, and the fingerprints of
held-out rows by data set. So a reader that has neither the study's data nor its models knows what a
result is called now, though its folder and its record have an older name.
Invariant: plan.json is that of the study that ran last. Without one, or if it is damaged, a result
has the name of its record.
"""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from raylab.spec.swept_names import by_value
from raylab.store.filesystem import Store
from raylab.store.records import Record, named_likelihoods, write_json

PLAN = "plan.json"


class NamedResult(BaseModel):
    """A trial, a merge or a finished model that is asked as its study names it; `data`: its data
    sets by role."""

    model_config = ConfigDict(frozen=True, defer_build=True)
    name: str
    id: str
    base_model: str
    data: dict[str, str] = Field(default_factory=dict)


class StudyPlan(BaseModel):
    """All results of a study, and its held-out rows by data set."""

    model_config = ConfigDict(frozen=True, defer_build=True)
    study: str
    held_out: dict[str, str] = Field(default_factory=dict)
    results: tuple[NamedResult, ...] = ()

    def ids(self) -> dict[str, str]:
        """The id of each name."""
        return {item.name: item.id for item in self.results}

    def has(self, name: str) -> bool:
        """Whether a result has this name, in any spelling of a swept value, or this id."""
        asked = by_value(name)
        return any(asked == by_value(item.name) or name == item.id for item in self.results)

    def result(self, id: str, name: str = "") -> NamedResult | None:
        """The result with an id: the one called `name`, or else the first."""
        found = [item for item in self.results if item.id == id]
        return next((item for item in found if item.name == name), found[0] if found else None)

    def named(self, record: Record, name: str = "") -> Record:
        """`record` with the names of this plan, if it is a result of it."""
        item = self.result(record.id, name)
        if item is None:
            return record
        metrics = named_likelihoods(record, self.held_out)
        return record.model_copy(update={"name": item.name, "data": item.data, "metrics": metrics})


def write_plan(store: Store, plan: StudyPlan) -> None:
    """Write OUT/plan.json. Raises StoreError."""
    write_json(store, PLAN, plan.model_dump())


def read_plan(store: Store) -> StudyPlan | None:
    """OUT/plan.json; None if there is none, or it is damaged. Raises StoreError."""
    text = store.read_if_there(PLAN)
    try:
        return StudyPlan.model_validate_json(text) if text else None
    except ValidationError:
        return None
