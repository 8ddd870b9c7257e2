"""study -> trials: all trainings of the study with their identities, parents first.

Model: a trial is a recipe variant with a base model and a seed. Its identity is a flat mapping
of everything that determines the trained adapter: the content of the base model, the method, the
content of the data, hyperparameters, the seeds, and the id of the parent. Therefore a change
affects the trial and its descendants, and nothing else.
Invariant: trials come parents first, in an order that depends on the study file only. Two trials
of a study never share a name. Equal identities have equal ids, whatever the paths.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from raylab.plan.framing import check_framing
from raylab.spec.data.dataset import load_data
from raylab.spec.data.rendering import dated_templates
from raylab.spec.data.rows import Row, rows_fingerprints
from raylab.spec.decoding import set_aside_message, set_aside_of
from raylab.spec.identity import fingerprint
from raylab.spec.merge_variants import partner_data
from raylab.spec.models import ResolvedModel, check_base, resolve, tokenizer_directory
from raylab.spec.recipes import Variant, expand_recipes, trial_name
from raylab.spec.seeds import Seeds
from raylab.spec.study import Study
from raylab.spec.vocabularies import Side, describe_clashes, places_of
from raylab.spec.weight_files import refuse_empty, shapes_of
from raylab.store.phase import CHECKING, MODELS, Tell, silent

FORMAT = 2


class WithFolder:
    """What is planned and has a folder in the store.

    stored_as: the folder that the store has for its id, if that is known (`raylab.plan.stored`).
    """

    name: str
    id: str
    stored_as: str

    @property
    def folder(self) -> str:
        """The name of its folder in the store."""
        return self.stored_as or f"{self.name}-{self.id}"


@dataclass(frozen=True)
class Trial(WithFolder):
    """One planned training. lineage: the names of its ancestors, the oldest first."""

    name: str
    id: str
    base_model: str
    variant: Variant
    seed: Seeds
    parent: str | None
    lineage: tuple[str, ...]
    identity: Mapping[str, Any] = field(repr=False)
    provisional: bool = False
    stored_as: str = ""
    partners: tuple[str, ...] = ()
    """The data sets of all models of the merges that it takes part in, under any of its names."""

    @property
    def row(self) -> dict[str, Any]:
        """The columns of the trials table that are known before the training."""
        variant = self.variant
        return {
            "trial_id": self.id,
            "name": self.name,
            "model": self.base_model,
            "recipe": variant.name,
            "label": variant.label,
            "method": variant.method,
            "data": variant.data,
            **self.seed.columns,
            "learning_rate": variant.training.learning_rate,
            "parent": self.parent,
        }


@dataclass(frozen=True)
class Inputs:
    """The inputs of a study: its base models, its finished models, and its rows by data set."""

    base_models: Mapping[str, ResolvedModel]
    models: Mapping[str, ResolvedModel]
    rows: Mapping[str, Sequence[Row]] = field(repr=False)
    warnings: tuple[str, ...] = ()
    """Possible mistakes in the rows that do not prevent the study, and what is not followed."""
    own_decoding: frozenset[str] = frozenset()
    """Base models with decoding settings of their own; answers are not decoded by these."""


def read_inputs(study: Study, *, online: bool = False, tell: Tell = silent) -> Inputs:
    """Find every model and read every row that `study` names; write nothing.

    Raises DataError with the problems of all data sets, or ModelError for the first model that
    cannot be used.
    """
    loaded = load_data(study, lambda done, of: tell(CHECKING, done, of))
    base_models = {}
    for done, (name, place) in enumerate(study.base_models.items()):
        tell(MODELS, done, len(study.base_models))
        base_models[name] = resolve(name, place, online=online)
    for name, found in base_models.items():
        if found.directory:
            check_base(name, found.directory, study.base_models[name])
    models = {name: resolve(name, place, online=online) for name, place in study.models.items()}
    for found in (*base_models.values(), *models.values()):
        if found.directory:
            refuse_empty(found.directory, shapes_of(found.directory))
    aside = _set_aside(study, base_models)
    tokenizers = {n: tokenizer_directory(found, online) for n, found in base_models.items()}
    clashing = _clashes(study, base_models, models)
    notes = (*check_framing(study, loaded, tokenizers), *aside.values(), *clashing)
    return Inputs(base_models, models, loaded.rows, (*loaded.warnings, *notes), frozenset(aside))


def _set_aside(study: Study, base_models: Mapping[str, ResolvedModel]) -> dict[str, str]:
    """A message for every base model that is asked without decoding settings of its own."""
    if not study.evaluation.prompts:
        return {}
    found = {}
    for name, model in base_models.items():
        own = set_aside_of(model.directory) if model.directory else {}
        if message := set_aside_message(f"the base model {name}", own):
            found[name] = message
    return found


def _clashes(
    study: Study,
    base_models: Mapping[str, ResolvedModel],
    models: Mapping[str, ResolvedModel],
) -> list[str]:
    """A warning for each two models that may be compared and whose tokenizers do not agree."""
    found = []
    for base, base_model in base_models.items():
        sides = (
            [Side(f"the base model {base}", base_model.directory)] if base_model.directory else []
        )
        for name, model in models.items():
            if study.models[name].base_model == base and model.directory:
                sides += places_of(name, (model.directory,), None)
        found += describe_clashes(sides) if len(sides) > 1 else []
    return found


def plan_trials(study: Study, inputs: Inputs) -> list[Trial]:
    """All trials of `study`, parents first."""
    data = rows_fingerprints(inputs.rows)
    trials: dict[str, Trial] = {}
    for base_model in study.base_models:
        for variant in expand_recipes(study).values():
            for seed in variant.seeds:
                trial = _trial(study, inputs, data, trials, (base_model, variant, seed))
                trials[trial.name] = trial
    return _with_partners(study, list(trials.values()))


def _with_partners(study: Study, trials: Sequence[Trial]) -> list[Trial]:
    known, of_id = partner_data(study), dict[str, set[str]]()
    for trial in trials:
        of_id.setdefault(trial.id, set()).update(known.get(trial.variant.name, ()))
    return [
        replace(trial, partners=tuple(name for name in study.data if name in of_id[trial.id]))
        for trial in trials
    ]


def _trial(
    study: Study,
    inputs: Inputs,
    data: Mapping[str, str],
    trials: Mapping[str, Trial],
    key: tuple[str, Variant, Seeds],
) -> Trial:
    base_model, variant, seed = key
    resolved = inputs.base_models[base_model]
    parent = trials[trial_name(base_model, variant.parent, seed)] if variant.parent else None
    identity = _identity(study, resolved, variant, seed, data)
    template, tokenizer = study.base_models[base_model].template, tokenizer_directory(resolved)
    if template:
        identity["chat_template"] = fingerprint(template)
    if dated_templates(tokenizer, template, study.template_date):
        identity["template_date"] = study.template_date.isoformat()
    if parent:
        identity |= {"parent": parent.id, "chain": variant.chain}
    return Trial(
        name=trial_name(base_model, variant.name, seed),
        id=fingerprint(identity),
        base_model=base_model,
        variant=variant,
        seed=seed,
        parent=parent.name if parent else None,
        lineage=(*parent.lineage, parent.name) if parent else (),
        identity=identity,
        provisional=resolved.provisional or not (template or tokenizer),
    )


def _identity(
    study: Study, base: ResolvedModel, variant: Variant, seed: Seeds, data: Mapping[str, str]
) -> dict[str, Any]:
    training = variant.training.model_dump()
    if variant.method != "dpo":
        del training["beta"]
    if training["learn"] == "last":
        del training["learn"]
    return {
        "format": FORMAT,
        "base_model": base.identity,
        "method": variant.method,
        **seed.identity,
        "held_out": study.held_out,
        **{f"data.{part}": data[name] for part, name in variant.data_sets.items()},
        **{f"training.{key}": value for key, value in training.items()},
        **{f"lora.{key}": _plain(value) for key, value in variant.lora},
        **{f"quantization.{key}": value for key, value in study.quantization},
    }


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
