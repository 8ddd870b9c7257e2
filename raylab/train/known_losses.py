"""Which base models are known to be trained on their own loss, and the check of the others.

Model: `raylab.train.model_loss` finds out whether trl's loss is a model's own, but it needs torch.
A row of KNOWN_LOSSES is an architecture of transformers for which a test has found that it is, and
the scales of its logits that it takes from its config. trl looks for such scales in every config,
so a config that holds one that its architecture does not use is checked as well.
Invariant: a study whose base models are known loads no torch here.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from raylab.plan.trials import Inputs
from raylab.spec.models import json_of
from raylab.spec.study import Study

SCALES = (
    "final_logit_softcapping", "logit_scale", "output_multiplier", "lm_head_multiplier",
    "logits_scaling",
)  # fmt: skip
"""The fields of a config from which trl 1.16 takes scales and caps of logits."""

KNOWN_LOSSES: Mapping[str, tuple[str, ...]] = {
    **dict.fromkeys(
        (
            "arcee", "bloom", "codegen", "deepseek_v2", "deepseek_v3", "ernie4_5", "exaone4",
            "falcon", "gemma", "glm", "glm4", "gpt2", "gpt_bigcode", "gpt_neo", "gpt_neox",
            "gpt_neox_japanese", "gpt_oss", "gptj", "helium", "internlm3", "llama", "ministral3",
            "mistral", "mixtral", "olmo", "olmo2", "olmo3", "olmoe", "opt", "persimmon", "phi",
            "phi3", "phimoe", "qwen2", "qwen2_moe", "qwen3", "qwen3_moe", "qwen3_next",
            "seed_oss", "smollm3", "stablelm", "starcoder2",
        ),
        (),
    ),
    **dict.fromkeys(("gemma2", "gemma3_text"), ("final_logit_softcapping",)),
    **dict.fromkeys(("cohere", "cohere2"), ("logit_scale",)),
    **dict.fromkeys(("granite", "granitemoe"), ("logits_scaling",)),
}  # fmt: skip
"""By `model_type`: the scales that the architecture uses."""


def is_known(config: Mapping[str, Any]) -> bool:
    """Whether a model of `config`, the content of a config.json, trains its own loss for sure."""
    used = KNOWN_LOSSES.get(str(config.get("model_type")))
    held = {name for name in SCALES if config.get(name) is not None}
    return used is not None and held <= {*used}


def has_own_code(config: Mapping[str, Any], trust_remote_code: bool) -> bool:
    """Whether transformers makes a model of `config` by code that comes with it."""
    return trust_remote_code and "AutoModelForCausalLM" in (config.get("auto_map") or {})


def check_losses(study: Study, inputs: Inputs, *, run_code: bool = False) -> None:
    """Refuse a base model on this machine that trl would train on another loss than its own.

    run_code: also look at models with code of their own that the study trusts. torch is loaded
    only where a base model is not known. Raises ModelError.
    """
    for name, model in inputs.base_models.items():
        if model.directory is not None and study.recipes:
            trusted = study.base_models[name].trust_remote_code
            _check(f"the base model {name}", model.directory, trusted, run_code)


def _check(name: str, directory: Path, trusted: bool, run_code: bool) -> None:
    config = json_of(directory / "config.json") or {}
    own_code = has_own_code(config, trusted)
    if not run_code if own_code else is_known(config):
        return
    from raylab.train.model_loss import check_architecture

    check_architecture(name, directory, trust_remote_code=own_code)
