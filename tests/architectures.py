"""Tiny random models of the five architectures of the study, made by transformers in seconds.

Two layers, 64 wide, saved by `save_pretrained` as safetensors. The weights are drawn from a seed,
every one of them, so that biases and norms differ from zero and one as in trained models.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import (
    AutoModelForCausalLM,
    Gemma2Config,
    GPTNeoXConfig,
    LlamaConfig,
    MistralConfig,
    PreTrainedConfig,
    PreTrainedModel,
    Qwen2Config,
)

ARCHITECTURES = ("llama", "qwen2", "mistral", "gpt_neox", "gemma2")
"""All but GPT-NeoX group queries; Qwen2 and GPT-NeoX have biases; Gemma 2 ties its head."""

_COMMON: dict[str, Any] = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "vocab_size": 160,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
_GROUPED = {"num_key_value_heads": 2}
_CONFIGS = {
    "llama": lambda: LlamaConfig(**_COMMON, **_GROUPED),
    "qwen2": lambda: Qwen2Config(**_COMMON, **_GROUPED),
    "mistral": lambda: MistralConfig(**_COMMON, **_GROUPED),
    "gpt_neox": lambda: GPTNeoXConfig(**_COMMON),
    "gemma2": lambda: Gemma2Config(**_COMMON, **_GROUPED, head_dim=16),
}


def tiny_model(
    architecture: str, seed: int = 0, dtype: torch.dtype = torch.bfloat16, **changes: Any
) -> PreTrainedModel:
    """A model of one of ARCHITECTURES with random weights; `changes` go into its config."""
    return random_model(_CONFIGS[architecture](), seed, dtype, **changes)


def random_model(
    config: PreTrainedConfig, seed: int, dtype: torch.dtype, **changes: Any
) -> PreTrainedModel:
    """A causal model of `config` with random weights; `changes` go into its config."""
    for key, value in changes.items():
        setattr(config, key, value)
    draws = torch.Generator().manual_seed(seed)
    model = AutoModelForCausalLM.from_config(config, dtype=dtype)
    with torch.no_grad():
        for parameter in model.parameters():
            centre = 1.0 if parameter.dim() == 1 else 0.0
            values = centre + 0.05 * torch.randn(parameter.shape, generator=draws)
            parameter.copy_(values)
    return model.eval()


def save_tiny(
    directory: Path, architecture: str, seed: int = 0, dtype: torch.dtype = torch.bfloat16
) -> Path:
    """`tiny_model` saved at `directory`, which is returned."""
    tiny_model(architecture, seed, dtype).save_pretrained(directory)
    return directory


def save_adapter(directory: Path, base: Path, seed: int = 1, **lora: Any) -> Path:
    """An adapter over the model at `base` with random tensors, saved by PEFT; its directory.

    `lora`: fields of `peft.LoraConfig`. Every trained tensor moves, biases and magnitudes too.
    """
    model = AutoModelForCausalLM.from_pretrained(base, dtype="auto")
    lora = {"r": 4, "lora_alpha": 16, "target_modules": "all-linear"} | lora
    return save_random(get_peft_model(model, LoraConfig(**lora)), directory, seed)


def save_random(model: PeftModel, directory: Path, seed: int) -> Path:
    """Move every trained tensor of `model` at random and save its adapter at `directory`."""
    draws = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in filter(lambda p: p.requires_grad, model.parameters()):
            step = 0.05 * torch.randn(parameter.shape, generator=draws)
            parameter.add_(step.to(parameter.dtype))
    model.save_pretrained(directory)
    return directory


def edited_adapter(
    source: Path,
    copy: Path,
    weights: str = "adapter_model.safetensors",
    add: Mapping[str, torch.Tensor] | None = None,
    drop: str | tuple[str, ...] = (),
    **changes: Any,
) -> Path:
    """A copy of an adapter, with `changes` in its config, and other tensors in its file `weights`.

    drop: endings of the names of tensors that the copy lacks.
    """
    shutil.copytree(source, copy)
    config = json.loads((copy / "adapter_config.json").read_text()) | changes
    (copy / "adapter_config.json").write_text(json.dumps(config))
    tensors = load_file(copy / weights)
    kept = {key: tensor for key, tensor in tensors.items() if not key.endswith(drop or "\0")}
    save_file(kept | dict(add or {}), copy / weights)
    return copy


def merged_by_peft(base: Path, *adapters: Path) -> dict[str, torch.Tensor]:
    """The weights at `base` after PEFT merged one adapter after the other, by the files' names."""
    model = AutoModelForCausalLM.from_pretrained(base, dtype="auto")
    for adapter in adapters:
        model = PeftModel.from_pretrained(model, adapter).merge_and_unload()
    weights = model.state_dict()
    head = weights.get("lm_head.weight")
    return weights | ({"embed_out.weight": head} if head is not None else {})
