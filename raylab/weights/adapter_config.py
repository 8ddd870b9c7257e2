"""adapter_config.json of a PEFT LoRA adapter: fields that are read, and fields that are refused.

Model: `AdapterConfig` holds the fields that decide what the adapter's tensors mean. Fields that
only record how the adapter was made (targets, dropout, task) do not change the result.
Invariant: a field that could change the meaning of a tensor and is not handled here, or that is
unknown, is refused by name unless it is off (see `raylab.weights.adapter_fields`). So an adapter
of a later version of PEFT is read correctly or not at all.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from raylab.errors import ModelError
from raylab.spec.weight_files import read_json
from raylab.weights.adapter_fields import DECOMPOSITIONS, initialisation, why_refused

CONFIG = "adapter_config.json"
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
    target_parameters: list[str] | None = None
    ensure_weight_tying: bool = False
    use_qalora: bool = False
    qalora_group_size: int = Field(default=16, ge=1)

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
        fields = {"init_lora_weights": self.init_lora_weights} | (self.model_extra or {})
        refused = [why for name in fields if (why := why_refused(name, fields[name]))]
        refused += [f"{a} with {b}" for a, b in self._unlike_peft()]
        if refused:
            raise ValueError(f"not read: {', '.join(sorted(refused))}")
        return self

    def _unlike_peft(self) -> Iterator[tuple[str, str]]:
        """Pairs of fields that PEFT refuses, or applies in a way that is not computed here."""
        if self.use_dora and self.fan_in_fan_out:
            yield "use_dora", "fan_in_fan_out"
        if self.decomposition is None:
            return
        for name in ("use_dora", "target_parameters"):
            if getattr(self, name):
                yield name, f"init_lora_weights: {self.init_lora_weights}"
        if self.decomposition == "olora" and self.fan_in_fan_out:
            yield "fan_in_fan_out", "init_lora_weights: olora"

    @property
    def decomposition(self) -> str | None:
        """pissa or olora: how PEFT finds what it takes out of the base model; None for neither."""
        found = initialisation(self.init_lora_weights)
        return found if found in DECOMPOSITIONS else None

    @property
    def base_fields(self) -> list[str]:
        """The fields that give the adapter's tensors a meaning only beside the base model."""
        fields = {
            f"init_lora_weights: {self.init_lora_weights}": self.decomposition,
            "use_qalora": self.use_qalora,
            "target_parameters": self.target_parameters,
        }
        return [field for field, is_on in fields.items() if is_on]

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
    found = read_json(directory / CONFIG, "the config of a PEFT adapter")
    if found.get("peft_type") != "LORA":
        raise ModelError(
            "the adapter is of a type that is not read",
            found=f"{directory}: {found.get('peft_type', 'no peft_type')}",
            expected="LORA",
            todo="merge it by the trainer that made it, and compare the model; docs/models.md says "
            "how, for some trainers",
        )
    try:
        return AdapterConfig(**found)
    except ValidationError as error:
        problems = (".".join(map(str, e["loc"])) + f": {e['msg']}" for e in error.errors())
        raise ModelError(
            "the adapter's config has parts that are not read",
            found=f"{directory}: {'; '.join(problems)}",
            expected="fields as docs/models.md lists them",
            todo="compare its model merged into a checkpoint instead",
        ) from error


def needs_base(directory: Path) -> bool:
    """Whether the adapter at `directory` says by its config that it needs the base model's weights.

    Raises ModelError.
    """
    return bool(read_config(directory).base_fields)
