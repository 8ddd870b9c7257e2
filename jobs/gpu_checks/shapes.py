"""Models of shapes alone: a checkpoint whose weights are zeros, in a file that holds nothing.

Model: the file of the weights has a header, and then a hole as long as the weights would be: it
takes no room on the disk, and reads as zeros. WIDE are the architectures that `raylab plan` knows
and transformers has, at full width: two layers each, and all layers of an 8B shape. SMALL are the
same architectures for a CPU.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM

from raylab.plan.model_shapes import published

_HUB = {
    "llama": "elyza/Llama-3-ELYZA-JP-8B",
    "qwen2": "Qwen/Qwen2.5-7B-Instruct",
    "mistral": "tokyotech-llm/Swallow-MS-7b-instruct-v0.1",
    "gemma2": "google/gemma-2-9b-it",
}
_NEOX = {
    "model_type": "gpt_neox",
    "hidden_size": 4096,
    "intermediate_size": 16384,
    "num_hidden_layers": 2,
    "num_attention_heads": 32,
    "vocab_size": 50432,
    "max_position_embeddings": 4096,
    "tie_word_embeddings": False,
}
_LEFT_OUT = ("parameters", "unverified")


def _published(name: str, **changes: Any) -> dict[str, Any]:
    config = published()[_HUB[name]]
    return {key: value for key, value in config.items() if key not in _LEFT_OUT} | changes


WIDE: dict[str, dict[str, Any]] = {
    "llama-8b": _published("llama"),
    **{name: _published(name, num_hidden_layers=2) for name in _HUB},
    "gpt_neox": _NEOX,
}

_SIZES = {
    "hidden_size": 256,
    "intermediate_size": 704,
    "num_hidden_layers": 2,
    "num_attention_heads": 8,
    "num_key_value_heads": 2,
    "vocab_size": 3072,
    "max_position_embeddings": 2048,
}
SMALL: dict[str, dict[str, Any]] = {
    "llama": _published("llama", **_SIZES, head_dim=32),
    "qwen2": _published("qwen2", **_SIZES, head_dim=32),
    "mistral": _published("mistral", **_SIZES, head_dim=32),
    "gemma2": _published("gemma2", **_SIZES, head_dim=64),
    "gpt_neox": _NEOX | {k: v for k, v in _SIZES.items() if k != "num_key_value_heads"},
}


def write_empty_model(directory: Path, config: dict[str, Any]) -> Path:
    """A bf16 checkpoint of a model with this config, all of whose weights are zero."""
    directory.mkdir(parents=True)
    made = AutoConfig.for_model(**config, pad_token_id=0, bos_token_id=None, eos_token_id=3)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(made, dtype=torch.bfloat16)
    made.architectures = [type(model).__name__]
    made.dtype = torch.bfloat16
    made.save_pretrained(directory)
    # A tied tensor is in the file under one of its names.
    parameters = dict(model.named_parameters())
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, parameter in parameters.items():
        begin, end = end, end + 2 * math.prod(parameter.shape)
        shape = list(parameter.shape)
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [begin, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with (directory / "model.safetensors").open("wb") as out:
        out.write(len(text).to_bytes(8, "little") + text)
        out.truncate(8 + len(text) + end)
    return directory
