"""What recipes are trained with besides the factors that the trials table has as columns.

Model: of each variant of a study, the parameters of its training and adapter, and how it follows
its parent; what its method has no use for is None.
Invariant: two trials whose recipes differ in anything but method, data, learning rate and parent
differ in a setting here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from raylab.spec.recipes import Variant, expand_recipes
from raylab.spec.study import Study

Settings = Mapping[str, Mapping[str, Any]]
"""By variant: its settings by name, those of the adapter as lora.r."""

# A column of its own, and what changes no result.
_LEFT_OUT = ("learning_rate", "gradient_checkpointing")


def settings_of(study: Study) -> Settings:
    """The settings of every variant of `study`."""
    return {name: _settings(variant) for name, variant in expand_recipes(study).items()}


def _settings(variant: Variant) -> dict[str, Any]:
    found = {k: v for k, v in variant.training.model_dump().items() if k not in _LEFT_OUT}
    found |= {f"lora.{key}": value for key, value in variant.lora.model_dump().items()}
    found["beta"] = variant.training.beta if variant.method == "dpo" else None
    found["chain"] = variant.chain if variant.parent else None
    return found
