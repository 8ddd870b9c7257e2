"""The facts of a published model: its base model, its trainings, its answers, its versions.

Model: `facts_of` takes all facts from records. A training's settings are its identity: everything
that determines its weights.
Invariant: no path, host, address or token is among the facts. The same records give the same
facts.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

import raylab
from raylab.results.quality_flags import flag_columns
from raylab.spec.data.rendering import dated_templates
from raylab.spec.study import Quantization
from raylab.store.records import Record
from raylab.store.references import FinishedTrial, is_merged

Form = Literal["adapter", "chain", "concatenated", "merged", "merge", "adapter_merge"]
"""adapter: the adapter of one training. chain: the adapters of a chain, each in its own folder.
concatenated: the adapters of a chain as one. merged: a trial as a whole model. merge: a whole
model that was merged of several. adapter_merge: an adapter that was."""

_NOT_SETTINGS = ("base_model", "parent", "format")
"""Fields of an identity that have a place of their own, or none, in the facts."""


class Training(BaseModel):
    """One training, or one merge."""

    model_config = ConfigDict(frozen=True)
    name: str
    id: str
    parent: str | None
    data: dict[str, str]
    """The data sets by their role in the training, each with its fingerprint."""
    settings: dict[str, Any]
    metrics: dict[str, float]
    versions: dict[str, str]


class Agreement(BaseModel):
    """How many recorded answers the published model gave, loaded by the code of its card."""

    model_config = ConfigDict(frozen=True)
    asked: int
    same: int
    batch: int
    """Prompts that were asked at once, at most."""
    threads: int
    device: str
    versions: dict[str, str]
    differs: str | None
    """What was not as when the trial recorded its answers; None: nothing."""
    otherwise: dict[str, int]
    """The same answers where the model was loaded in another way."""


class Facts(BaseModel):
    """Everything that a model card says; raylab.json holds it."""

    model_config = ConfigDict(frozen=True)
    raylab: str
    form: Form
    adapters: tuple[str, ...]
    """The folders of the adapters, the oldest first; "": the published folder itself. None of a
    whole model."""
    merged_parents: tuple[str, ...]
    """Those that were merged into the base model before the last one was trained."""
    stacked_parents: tuple[str, ...]
    """Those that stayed beside it."""
    quantization: str
    """How the base model was held."""
    base_model: str
    hub: str | None
    revision: str | None
    base_identity: str
    trainings: tuple[Training, ...]
    """The oldest first; the last is the model's own."""
    answers: dict[str, dict[str, float | None]]
    likelihoods: dict[str, dict[str, float | None]]
    marks: str | None
    template_date: str | None = None
    """The day that its chat template prints in place of today's date; None: it prints no date."""
    difference: float | None = None
    """Of a concatenated adapter from the chain's sum, relative to the sum's largest entry."""
    rank: int | None = None
    """Of an adapter that was merged, the largest of its layers."""
    relative_error: float | None = None
    """Of an adapter that was merged: |merged delta - B A| / |merged delta|, over all layers."""
    made_of: str | None = None
    """Of a merge: its method, and the models that it combined."""
    agreement: Agreement | None = None
    unverified: str | None = None
    """Why there is no agreement."""

    @property
    def is_whole(self) -> bool:
        """Whether it is a model of its own, and no adapter."""
        return self.form in ("merged", "merge")

    @property
    def verdict(self) -> str:
        """One line on whether it answers as its trial did."""
        if self.agreement is None:
            return f"answers not compared: {self.unverified}"
        found = self.agreement
        differs = f" ({found.differs})" if found.differs else ""
        return f"{found.same} of {found.asked} recorded answers are the same{differs}"

    @property
    def metadata(self) -> dict[str, Any]:
        """The metadata of the model card, for huggingface_hub.ModelCardData."""
        methods = {str(training.settings.get("method", "merge")) for training in self.trainings}
        metadata: dict[str, Any] = {
            "library_name": "transformers" if self.is_whole else "peft",
            "tags": ["raylab", *sorted(methods)],
        }
        if self.hub:
            metadata["base_model"] = self.hub
            relation = {"merge": "merge", "merged": "finetune"}.get(self.form, "adapter")
            metadata["base_model_relation"] = relation
        if self.is_whole:
            metadata["pipeline_tag"] = "text-generation"
        return metadata


def facts_of(trial: FinishedTrial, *, merged: bool, one_adapter: bool = False) -> Facts:
    """The facts of a trial or merge that is published.

    merged: as a whole model; one_adapter: a chain as a single adapter.
    """
    base_model = trial.study.base_models[trial.base_model]
    form = _form(trial, merged=merged, one_adapter=one_adapter)
    adapters = _adapters(form, len(trial.lineage))
    count = _merged_count(trial.lineage) if form == "chain" else 0
    metrics = trial.record.metrics
    identity = str(trial.record.identity.get("base_model", "unknown"))
    # The identity of a model of the hub is hub:ID@COMMIT.
    commit = identity.rpartition("@")[2] if identity.startswith("hub:") else None
    return Facts(
        raylab=raylab.__version__,
        form=form,
        adapters=adapters,
        merged_parents=adapters[:count],
        stacked_parents=adapters[count:-1],
        quantization=_held_as(trial.quantization),
        base_model=trial.base_model,
        hub=base_model.hub,
        revision=commit or base_model.revision,
        base_identity=identity,
        trainings=tuple(map(_training, trial.lineage)),
        answers=metrics.get("answers", {}),
        likelihoods=metrics.get("likelihoods", {}),
        template_date=_template_date(trial),
        marks=flag_columns(metrics, trial.study.evaluation.limits)["marks"],
    )


def _template_date(trial: FinishedTrial) -> str | None:
    directory = trial.location.checkpoint or trial.location.base
    source, day = trial.study.base_models[trial.base_model], trial.study.template_date
    return day.isoformat() if dated_templates(directory, source.template, day) else None


def _form(trial: FinishedTrial, *, merged: bool, one_adapter: bool) -> Form:
    if is_merged(trial.record):
        return "merge"
    if merged:
        return "merged"
    if "merge.method" in trial.record.identity:
        return "adapter_merge"
    if len(trial.lineage) == 1:
        return "adapter"
    return "concatenated" if one_adapter else "chain"


def _adapters(form: Form, trainings: int) -> tuple[str, ...]:
    if form in ("merged", "merge"):
        return ()
    return tuple(f"adapter-{i + 1}" for i in range(trainings)) if form == "chain" else ("",)


def _merged_count(lineage: Sequence[Record]) -> int:
    """How many of the oldest adapters were merged before the last training began.

    A training that starts from a merged parent starts from all of its ancestors merged; one that
    is stacked on its parent adds that one adapter beside the weights that the parent had.
    """
    merges = [i for i, item in enumerate(lineage) if i and item.identity.get("chain") != "stack"]
    return max(merges, default=0)


def _held_as(quantization: Quantization) -> str:
    dtype = quantization.compute_dtype
    if quantization.bits == 16:
        return f"in {dtype}, not quantised"
    double = ", its constants quantised too" if quantization.double else ""
    return f"in 4 bits ({quantization.type}{double}), computing in {dtype}"


def _training(record: Record) -> Training:
    settings = {key: val for key, val in record.identity.items() if key not in _NOT_SETTINGS}
    data = {
        role: f"{name} ({settings.pop(f'data.{role}', 'unknown')})"
        for role, name in record.data.items()
    }
    metrics = {
        key: value
        for key, value in record.metrics.items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    }
    return Training(
        name=record.name,
        id=record.id,
        parent=record.identity.get("parent"),
        data=data,
        settings=settings,
        metrics=metrics,
        versions=record.versions,
    )
