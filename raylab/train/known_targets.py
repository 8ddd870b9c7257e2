"""Which adapters are known to reach what they name; PEFT is asked about all others.

Model: `target_modules: all-linear` means every linear layer in an architecture without experts for
which a test has trained it (a row of `raylab.train.known_losses.KNOWN_LOSSES`). Names of one's own,
experts and other architectures need PEFT's answer (`raylab.train.targets`).
Invariant: torch is loaded only where PEFT has to be asked.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from raylab.plan.model_shapes import config_of, is_mixture
from raylab.plan.trials import Inputs, Trial
from raylab.spec.study import Lora, Study
from raylab.train.known_losses import KNOWN_LOSSES


def needs_answer(config: Mapping[str, Any], lora: Lora) -> bool:
    """Whether PEFT has to say what `lora` reaches in a model of `config`, a config.json."""
    is_known = config.get("model_type") in KNOWN_LOSSES and not is_mixture(config)
    return not is_known or lora.target_modules != "all-linear"


def trials_to_ask(study: Study, inputs: Inputs, trials: Sequence[Trial]) -> list[Trial]:
    """The trials whose adapters PEFT is asked about before any training.

    A base model that is not on this machine is asked about when a trial has fetched it; one with
    code of its own, which must not run here, is not.
    """
    configs = {
        name: config_of(found) or {}
        for name, found in inputs.base_models.items()
        if found.directory and not study.base_models[name].trust_remote_code
    }
    return [
        trial
        for trial in trials
        if trial.base_model in configs
        and needs_answer(configs[trial.base_model], trial.variant.lora)
    ]


def check_unknown_targets(study: Study, inputs: Inputs, trials: Sequence[Trial]) -> list[str]:
    """`raylab.train.targets.check_targets` where an adapter has to be asked about; else nothing.

    Raises ModelError.
    """
    if not trials_to_ask(study, inputs, trials):
        return []
    from raylab.train.targets import check_targets

    return check_targets(study, inputs, trials)
