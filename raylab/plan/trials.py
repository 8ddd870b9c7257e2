"""study -> trials: which trainings there are, what identifies each, parents first.

Model: a trial is a recipe variant with a base model and a seed. Its identity is a flat mapping
of everything that determines the trained adapter: base model content, method, data content,
hyperparameters, seed, and the parent's id, so a change passes on to all descendants and to
nothing else.
Invariant: trials come parents first, in an order that the study file alone decides; two trials
of a study never share a name; equal identities have equal ids, whatever the paths.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from raylab.spec.data.dataset import load_data
from raylab.spec.data.rows import Row, rows_fingerprint
from raylab.spec.identity import fingerprint
from raylab.spec.models import ResolvedModel, check_base, resolve
from raylab.spec.recipes import Variant, expand_recipes, trial_name
from raylab.spec.study import Study

FORMAT = 2


@dataclass(frozen=True)
class Trial:
    """One training, wholly decided. `lineage` names its ancestors, the oldest first."""

    name: str
    id: str
    base_model: str
    variant: Variant
    seed: int
    parent: str | None
    lineage: tuple[str, ...]
    identity: Mapping[str, Any] = field(repr=False)
    provisional: bool = False

    @property
    def folder(self) -> str:
        """The name of its folder in the store."""
        return f"{self.name}-{self.id}"

    @property
    def row(self) -> dict[str, Any]:
        """The columns of the trials table that are known before it trains."""
        variant = self.variant
        return {
            "trial_id": self.id,
            "name": self.name,
            "model": self.base_model,
            "recipe": variant.name,
            "label": variant.label,
            "method": variant.method,
            "data": variant.data,
            "seed": self.seed,
            "learning_rate": variant.training.learning_rate,
            "parent": self.parent,
        }


@dataclass(frozen=True)
class Inputs:
    """What a study refers to, as found: its base and finished models, and its rows."""

    base_models: Mapping[str, ResolvedModel]
    models: Mapping[str, ResolvedModel]
    rows: Mapping[str, Sequence[Row]] = field(repr=False)
    warnings: tuple[str, ...] = ()
    """What looks wrong with the rows, and stops nothing."""


def read_inputs(study: Study, *, online: bool = False) -> Inputs:
    """Find every model and read every row that `study` names.

    Raises DataError for all data, or ModelError for the first model, that cannot be used; writes
    nothing.
    """
    loaded = load_data(study)
    base_models = {
        name: resolve(name, place, online=online) for name, place in study.base_models.items()
    }
    for name, found in base_models.items():
        if found.directory:
            check_base(name, found.directory, study.base_models[name])
    models = {name: resolve(name, place, online=online) for name, place in study.models.items()}
    return Inputs(base_models, models, loaded.rows, loaded.warnings)


def plan_trials(study: Study, inputs: Inputs) -> list[Trial]:
    """All trials of `study`, parents first."""
    data = {name: rows_fingerprint(rows) for name, rows in inputs.rows.items()}
    trials: dict[str, Trial] = {}
    for base_model in study.base_models:
        for variant in expand_recipes(study).values():
            for seed in study.seeds:
                trial = _trial(study, inputs, data, trials, (base_model, variant, seed))
                trials[trial.name] = trial
    return list(trials.values())


def _trial(
    study: Study,
    inputs: Inputs,
    data: Mapping[str, str],
    trials: Mapping[str, Trial],
    key: tuple[str, Variant, int],
) -> Trial:
    base_model, variant, seed = key
    resolved = inputs.base_models[base_model]
    parent = trials[trial_name(base_model, variant.parent, seed)] if variant.parent else None
    identity = _identity(study, resolved, variant, seed, data)
    if template := study.base_models[base_model].template:
        identity["chat_template"] = fingerprint(template)
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
        provisional=resolved.provisional,
    )


def _identity(
    study: Study, base: ResolvedModel, variant: Variant, seed: int, data: Mapping[str, str]
) -> dict[str, Any]:
    training = variant.training.model_dump(exclude=set() if variant.method == "dpo" else {"beta"})
    return {
        "format": FORMAT,
        "base_model": base.identity,
        "method": variant.method,
        "seed": seed,
        "held_out": study.held_out,
        **{f"data.{part}": data[name] for part, name in variant.data_sets.items()},
        **{f"training.{key}": value for key, value in training.items()},
        **{f"lora.{key}": _plain(value) for key, value in variant.lora},
        **{f"quantization.{key}": value for key, value in study.quantization},
    }


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
