"""What is told of a published model: its base, its trainings, what it said, how it was made.

Model: `facts_of` takes them from records; nothing else is known, so nothing else can be told. A
training's settings are its identity: everything that determines its weights.
Invariant: no path, host, address or token is among them. The same records give the same facts.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

import raylab
from raylab.results.quality_flags import mark_columns
from raylab.store.records import Record
from raylab.store.references import Made, is_merged

Form = Literal["adapter", "concatenated", "merged", "merge"]
"""adapter: one training's own. concatenated: those of a chain as one. merged: a whole model, of
a trial. merge: a whole model that was merged of several."""

_ELSEWHERE = ("base_model", "parent", "format")


class Training(BaseModel):
    """One training, or one merge."""

    model_config = ConfigDict(frozen=True)
    name: str
    id: str
    parent: str | None
    data: dict[str, str]
    """The data sets by the part that they play, and their fingerprints."""
    settings: dict[str, Any]
    metrics: dict[str, float]
    versions: dict[str, str]


class Facts(BaseModel):
    """All that a model card says."""

    model_config = ConfigDict(frozen=True)
    raylab: str
    form: Form
    base_model: str
    hub: str | None
    revision: str | None
    base_identity: str
    trainings: tuple[Training, ...]
    """The oldest first; the last is the model's own."""
    answers: dict[str, dict[str, float | None]]
    likelihoods: dict[str, dict[str, float | None]]
    marks: str | None
    difference: float | None = None
    """Of a concatenated adapter from the chain's sum, relative to its largest entry."""

    @property
    def base_named(self) -> str:
        """What a script loads as the base model."""
        return self.hub or self.base_model


def facts_of(made: Made, *, merged: bool) -> Facts:
    """The facts of a trial or merge that is published, as a whole model where `merged`."""
    place = made.study.base_models[made.base_model]
    metrics = made.record.metrics
    identity = str(made.record.identity.get("base_model", "unknown"))
    return Facts(
        raylab=raylab.__version__,
        form=_form(made, merged=merged),
        base_model=made.base_model,
        hub=place.hub,
        revision=_commit(identity) or place.revision,
        base_identity=identity,
        trainings=tuple(map(_training, made.lineage)),
        answers=metrics.get("answers", {}),
        likelihoods=metrics.get("likelihoods", {}),
        marks=mark_columns(metrics, made.study.evaluation.limits)["marks"],
    )


def _commit(identity: str) -> str | None:
    """The commit that an identity `hub:ID@COMMIT` names."""
    return identity.rpartition("@")[2] if identity.startswith("hub:") else None


def _form(made: Made, *, merged: bool) -> Form:
    if is_merged(made.record):
        return "merge"
    if merged:
        return "merged"
    return "adapter" if len(made.lineage) == 1 else "concatenated"


def _training(record: Record) -> Training:
    identity: Mapping[str, Any] = record.identity
    told = {key: value for key, value in identity.items() if key not in _ELSEWHERE}
    data = {
        part: f"{name} ({told.pop(f'data.{part}', 'unknown')})"
        for part, name in record.data.items()
    }
    numbers = {
        key: value
        for key, value in record.metrics.items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    }
    return Training(
        name=record.name,
        id=record.id,
        parent=identity.get("parent"),
        data=data,
        settings=told,
        metrics=numbers,
        versions=record.versions,
    )
