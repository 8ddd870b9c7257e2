"""Refuses merges of a study that could not be carried out, before anything trains.

Model: the tokenizers of finished models have to agree, or the merge names that of its output, which
is then put together as the merge will do it. The models of a merge that is written as an
adapter, or made by a method of factors, have to be LoRA on linear layers alone: finished ones are
opened as the merge will open them, and PEFT is asked what the adapter of a trial reaches where that
is not known.
Invariant: only headers are read, and nothing heavy is imported where no merge is an adapter. What
is not on this machine is checked when the merge runs.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from raylab.errors import ModelError
from raylab.merge.study_tokenizers import output_tokenizers
from raylab.plan.merges import PlannedMerge
from raylab.plan.trials import Inputs, Trial
from raylab.plan.vocabularies import check_rows, check_tokenizers, finished_models
from raylab.spec.merges import MergeRequest
from raylab.spec.study import Study
from raylab.store.references import location_of
from raylab.train.known_targets import trials_to_ask


def check_merges(
    study: Study, inputs: Inputs, trials: Sequence[Trial], merges: Sequence[PlannedMerge]
) -> None:
    """Raise ModelError for the first merge that cannot be carried out."""
    check_tokenizers(merges, inputs)
    check_rows(study, inputs, [*trials, *merges])
    output_tokenizers(merges, inputs)
    of_factors = [m for m in merges if m.is_adapter or m.request.row.inputs == "factors"]
    if not of_factors:
        return
    asked = {trial.name: trial for trial in trials_to_ask(study, inputs, trials)}
    by_name = {trial.name: trial for trial in trials}
    for merge in of_factors:
        base = inputs.base_models[merge.base_model].directory
        finished = finished_models(merge, inputs)
        places = {name: place for name in finished if (place := inputs.models[name].directory)}
        _check_finished(base, places, merge.request)
        trained = [trial for name in merge.needs for trial in (*by_name[name].lineage, name)]
        if base:
            _check_trials(base, (asked[name] for name in trained if name in asked), merge.request)


def _check_finished(base: Path | None, finished: Mapping[str, Path], request: MergeRequest) -> None:
    from raylab.merge.adapter_plan import read_inputs, refuse_whole, todo_of
    from raylab.weights import Checkpoint
    from raylab.weights.views import DELTA, ViewedModel

    places = {name: location_of(directory, base) for name, directory in finished.items()}
    for name, place in places.items():
        if place.checkpoint:
            refuse_whole(name, place.checkpoint, todo_of(request))
    if base and places:
        template = Checkpoint(base)
        models = [ViewedModel(place, DELTA, template) for place in places.values()]
        read_inputs(list(places), models, list(places.values()), todo_of(request))


def _check_trials(base: Path, trials: Iterable[Trial], request: MergeRequest) -> None:
    from raylab.train.targets import reach

    is_of_factors = request.row.inputs == "factors"
    instead = "by tsv, iso_c or ties" if is_of_factors else "without `as: adapter`"
    for trial in trials:
        found = reach(base, trial.variant.lora)
        if more := (*found.parameters, *found.not_linear):
            raise ModelError(
                f"{trial.name} will be more than LoRA on linear layers",
                found=f"target_modules that reach {', '.join(more)}",
                expected="linear layers alone, whose factors are merged",
                todo=f"merge it {instead}, or name linear layers in `target_modules`",
            )
