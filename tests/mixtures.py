"""Tiny random mixtures of experts, made by transformers: 2 layers, 32 wide, 4 experts of 48."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoModelForImageTextToText,
    Glm4vMoeConfig,
    GptOssConfig,
    GraniteMoeConfig,
    MixtralConfig,
    OlmoeConfig,
    PreTrainedModel,
    Qwen2MoeConfig,
    Qwen3_5MoeConfig,
    Qwen3MoeConfig,
    Qwen3VLMoeConfig,
)

from tests.architectures import random_model
from tests.chats import tiny_tokenizer

_COMMON: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "num_experts_per_tok": 2,
    "vocab_size": 160,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "max_position_embeddings": 512,
}
_CONFIGS: dict[str, Any] = {
    "mixtral": lambda: MixtralConfig(**_COMMON, num_local_experts=4),
    "qwen3_moe": lambda: Qwen3MoeConfig(
        **_COMMON, num_experts=4, moe_intermediate_size=40, head_dim=8
    ),
    "qwen2_moe": lambda: Qwen2MoeConfig(
        **_COMMON, num_experts=4, moe_intermediate_size=40, shared_expert_intermediate_size=40
    ),
    "olmoe": lambda: OlmoeConfig(**_COMMON, num_experts=4),
    "gpt_oss": lambda: GptOssConfig(**_COMMON, num_local_experts=4, head_dim=8),
    "granitemoe": lambda: GraniteMoeConfig(**_COMMON, num_local_experts=4),
}
MIXTURES = tuple(_CONFIGS)
_TEXT = _COMMON | {"head_dim": 8, "moe_intermediate_size": 24, "vocab_size": 288}
_ROPE = {"rope_type": "default", "mrope_section": [1, 1, 2], "rope_theta": 1e4}
_IMAGES = {"depth": 1, "hidden_size": 16, "intermediate_size": 24, "num_heads": 2}
_IMAGES |= {"out_hidden_size": 32, "patch_size": 14}
_LINEAR_ATTENTION = {"linear_num_key_heads": 2, "linear_num_value_heads": 4}
_LINEAR_ATTENTION |= {"linear_key_head_dim": 8, "linear_value_head_dim": 8}
_ROUTED = {"n_routed_experts": 4, "n_shared_experts": 1, "first_k_dense_replace": 1}
_ROUTED |= {"n_group": 1, "topk_group": 1}
_WITH_IMAGES: dict[str, Any] = {
    "qwen3_vl_moe": lambda: Qwen3VLMoeConfig(
        text_config=_TEXT | {"num_experts": 4, "rope_parameters": _ROPE},
        vision_config=_IMAGES | {"num_position_embeddings": 16, "deepstack_visual_indexes": [0]},
    ),
    "qwen3_5_moe": lambda: Qwen3_5MoeConfig(
        text_config=_TEXT
        | _LINEAR_ATTENTION
        | {"num_experts": 4, "shared_expert_intermediate_size": 24}
        | {"layer_types": ["linear_attention", "full_attention"]},
        vision_config=_IMAGES | {"num_position_embeddings": 16},
    ),
    "glm4v_moe": lambda: Glm4vMoeConfig(
        text_config=_TEXT | _ROUTED | {"rope_parameters": _ROPE},
        vision_config=_IMAGES | {"image_size": 28},
    ),
}
MIXTURES_WITH_IMAGES = tuple(_WITH_IMAGES)
"""Qwen3.5 can also be loaded as its part for text alone, by AutoModelForCausalLM."""
_TOKENS = ("bos", "eos", "pad")
EXPERTS = ("experts.gate_up_proj", "experts.down_proj")


def tiny_mixture(
    architecture: str, seed: int = 0, dtype: torch.dtype = torch.float32, **changes: Any
) -> PreTrainedModel:
    """A model of one of MIXTURES with random weights; `changes` go into its config."""
    return random_model(_CONFIGS[architecture](), seed, dtype, **changes)


def save_mixture(
    directory: Path, architecture: str, seed: int = 0, dtype: torch.dtype = torch.float32
) -> Path:
    """`tiny_mixture` saved at `directory` as transformers saves it; the directory."""
    tiny_mixture(architecture, seed, dtype).save_pretrained(directory)
    return directory


def save_chat_mixture(directory: Path, architecture: str, family: str = "llama") -> Path:
    """A mixture in bfloat16 with a chat tokenizer of `family`; its router's logits are asked for.

    So it is as published mixtures are found: `output_router_logits: true` in config.json.
    """
    tokenizer = tiny_tokenizer(family)
    tokens = {f"{name}_token_id": getattr(tokenizer, f"{name}_token_id") for name in _TOKENS}
    model = tiny_mixture(
        architecture, 0, torch.bfloat16, vocab_size=-(-len(tokenizer) // 8) * 8, **tokens
    )
    for name, value in tokens.items():
        setattr(model.generation_config, name, value)
    model.config.output_router_logits = True
    model.save_pretrained(directory)
    tokenizer.save_pretrained(directory)
    return directory


def save_mixture_with_images(directory: Path, architecture: str, seed: int = 0) -> Path:
    """A model of one of MIXTURES_WITH_IMAGES, float32, every parameter drawn from `seed`, as
    transformers saves it at `directory`; the directory."""
    config = _WITH_IMAGES[architecture]()
    model = AutoModelForImageTextToText.from_config(config, dtype=torch.float32)
    draws = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(0.05 * torch.randn(parameter.shape, generator=draws))
    model.save_pretrained(directory)
    return directory
