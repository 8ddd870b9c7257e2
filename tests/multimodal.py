"""Tiny random models that read images as well, in the files that their own classes write."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoModelForImageTextToText,
    Gemma3Config,
    LlavaConfig,
    Mistral3Config,
    PreTrainedModel,
    Qwen2_5_VLConfig,
    Qwen3_5Config,
)

MULTIMODAL = ("gemma3", "mistral3", "llava", "qwen2_5_vl", "qwen3_5")
"""Gemma 3 and Qwen3.5 are loaded by AutoModelForCausalLM: the first as a whole, of the second the
part for text alone. The others are loaded by AutoModelForImageTextToText."""
CAUSAL = ("gemma3", "qwen3_5")

_TEXT: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "vocab_size": 288,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
_IMAGES = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1, "patch_size": 14}
_IMAGES |= {"num_attention_heads": 2, "image_size": 28}
_QWEN_IMAGES = {"depth": 1, "hidden_size": 16, "intermediate_size": 24, "num_heads": 2}
_QWEN_IMAGES |= {"out_hidden_size": 32, "patch_size": 14}
_QWEN_TOKENS = {"image_token_id": 280, "video_token_id": 281}
_QWEN_TOKENS |= {"vision_start_token_id": 282, "vision_end_token_id": 283}
_ROPE = {"rope_type": "default", "mrope_section": [1, 1, 2], "rope_theta": 1e4}
_LINEAR_ATTENTION = {"linear_num_key_heads": 2, "linear_num_value_heads": 4}
_LINEAR_ATTENTION |= {"linear_key_head_dim": 8, "linear_value_head_dim": 8}
_CONFIGS = {
    "gemma3": lambda: Gemma3Config(
        text_config=dict(_TEXT),
        vision_config=dict(_IMAGES),
        mm_tokens_per_image=4,
        image_token_index=280,
    ),
    "mistral3": lambda: Mistral3Config(
        text_config=_TEXT | {"model_type": "mistral"},
        vision_config=_IMAGES | {"model_type": "pixtral", "head_dim": 8},
        image_token_index=280,
        tie_word_embeddings=False,
    ),
    "llava": lambda: LlavaConfig(
        text_config=_TEXT | {"model_type": "llama"},
        vision_config=_IMAGES | {"model_type": "clip_vision_model", "projection_dim": 16},
        image_token_index=280,
    ),
    "qwen2_5_vl": lambda: Qwen2_5_VLConfig(
        text_config=_TEXT | {"rope_parameters": _ROPE},
        vision_config=_QWEN_IMAGES | {"fullatt_block_indexes": [0]},
        **_QWEN_TOKENS,
    ),
    "qwen3_5": lambda: Qwen3_5Config(
        text_config=_TEXT
        | _LINEAR_ATTENTION
        | {"layer_types": ["linear_attention", "full_attention"]},
        vision_config=_QWEN_IMAGES | {"num_position_embeddings": 16},
        **_QWEN_TOKENS,
    ),
}


def tiny_multimodal(architecture: str, seed: int = 0) -> PreTrainedModel:
    """A model of one of MULTIMODAL, float32, every parameter drawn from `seed`."""
    model = AutoModelForImageTextToText.from_config(_CONFIGS[architecture](), dtype=torch.float32)
    draws = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(0.05 * torch.randn(parameter.shape, generator=draws))
    return model.eval()


def save_multimodal(directory: Path, architecture: str, seed: int = 0) -> Path:
    """`tiny_multimodal` saved at `directory`, which is returned."""
    tiny_multimodal(architecture, seed).save_pretrained(directory)
    return directory
