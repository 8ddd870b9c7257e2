"""adapter_config.json of a PEFT LoRA adapter: fields that are read, and fields that are refused.

Model: `AdapterConfig` holds the fields that decide what the adapter's tensors mean. Fields that
only record how the adapter was made (targets, dropout, task) do not change the result.
Invariant: a field that could change the meaning of a tensor and is not handled here, or that is
unknown, is refused by name unless it is off. So an adapter of a later version of PEFT is read
correctly or not at all.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from raylab.errors import ModelError
from raylab.weights.safetensors_reader import read_json

_NO_EFFECT = {
    "auto_mapping", "base_model_name_or_path", "bias", "corda_config", "eva_config",
    "exclude_modules", "inference_mode", "layers_pattern", "layers_to_transform", "loftq_config",
    "lora_dropout", "lora_ga_config", "megatron_core", "modules_to_save", "peft_type",
    "peft_version", "qalora_group_size", "revision", "target_modules", "task_type",
}  # fmt: skip
_KEEPS_BASE = (True, False, None, "gaussian", "eva", "orthogonal")
"""Initialisations of A and B that leave the base model's weights as they are."""

Value = TypeVar("Value")


class AdapterConfig(BaseModel):
    """The fields that are read; see `peft.LoraConfig`. Others are in `model_extra`."""

    model_config = ConfigDict(frozen=True, extra="allow", allow_inf_nan=False)

    r: int = Field(default=8, ge=1)
    lora_alpha: float = 8
    rank_pattern: dict[str, int] | None = None
    alpha_pattern: dict[str, float] | None = None
    use_rslora: bool = False
    use_dora: bool = False
    fan_in_fan_out: bool = False
    lora_bias: bool = False
    init_lora_weights: bool | str | None = True
    trainable_token_indices: list[int] | dict[str, list[int]] | None = None

    @field_validator("rank_pattern", "alpha_pattern")
    @classmethod
    def _check_patterns(cls, patterns: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
        for pattern in patterns or ():
            try:
                re.compile(_pattern(pattern))
            except re.error as error:
                raise ValueError(f"{pattern!r} is no regular expression: {error}") from error
        return patterns

    @model_validator(mode="after")
    def _refuse_other_fields(self) -> Self:
        extra = self.model_extra or {}
        refused = [name for name, value in extra.items() if value and name not in _NO_EFFECT]
        if self.init_lora_weights not in _KEEPS_BASE:
            refused.append(f"init_lora_weights: {self.init_lora_weights}")
        if self.use_dora and self.fan_in_fan_out:
            refused.append("use_dora with fan_in_fan_out")
        if refused:
            raise ValueError(f"not read: {', '.join(sorted(refused))}")
        return self

    def rank_of(self, module: str) -> int:
        """The rank of the factors of `module`, a name without PEFT's prefix."""
        return _by_pattern(self.rank_pattern or {}, module, self.r)

    def scale_of(self, module: str) -> float:
        """alpha / r, or alpha / sqrt(r) with rsLoRA (Kalajdzievski 2023, arXiv:2312.03732)."""
        alpha = _by_pattern(self.alpha_pattern or {}, module, self.lora_alpha)
        rank = self.rank_of(module)
        return alpha / (math.sqrt(rank) if self.use_rslora else rank)

    def tokens_of(self, module: str) -> list[int]:
        """The rows of the embedding `module` that were trained alone, in the file's order."""
        found = self.trainable_token_indices or []
        return _by_pattern(found, module, []) if isinstance(found, dict) else found


def _pattern(pattern: str) -> str:
    return rf"(.*\.)?({pattern})$"


def _by_pattern(patterns: Mapping[str, Value], module: str, default: Value) -> Value:
    """The value of the first pattern that `module` ends in, as PEFT's `get_pattern_key`."""
    for pattern, value in patterns.items():
        if re.match(_pattern(pattern), module):
            return value
    return default


def read_config(directory: Path) -> AdapterConfig:
    """The config of the adapter at `directory`. Raises ModelError."""
    found = read_json(directory / "adapter_config.json", "the config of a PEFT adapter")
    if found.get("peft_type") != "LORA":
        raise ModelError(
            "the adapter is of a type that is not read",
            found=f"{directory}: {found.get('peft_type')}",
            expected="LORA",
        )
    try:
        return AdapterConfig(**found)
    except ValidationError as error:
        problems = (".".join(map(str, e["loc"])) + f": {e['msg']}" for e in error.errors())
        raise ModelError(
            "the adapter's config has parts that are not read",
            found=f"{directory}: {'; '.join(problems)}",
            expected="LoRA or DoRA on linear layers or embeddings, rsLoRA, patterns, "
            "modules_to_save, bias, trainable tokens",
            todo="compare its model merged into a checkpoint instead",
        ) from error
