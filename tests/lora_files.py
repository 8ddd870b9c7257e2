"""LoRA adapters written as PEFT saves them, out of factors that a test chooses."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file


def write_adapter(
    directory: Path, factors: Mapping[str, tuple[np.ndarray, np.ndarray]], **changes: Any
) -> Path:
    """An adapter whose modules have these (A, B); `changes` are fields of its configuration."""
    tensors = {}
    for module, pair in factors.items():
        for side, values in zip("AB", pair, strict=True):
            name = f"base_model.model.{module}.lora_{side}.weight"
            tensors[name] = np.ascontiguousarray(values, dtype=np.float32)
    directory.mkdir(parents=True)
    save_file(tensors, directory / "adapter_model.safetensors")
    rank = next(iter(factors.values()))[0].shape[0]
    config = {
        "peft_type": "LORA",
        "r": rank,
        "lora_alpha": 2 * rank,
        "target_modules": [module.rpartition(".")[2] for module in factors],
        **changes,
    }
    (directory / "adapter_config.json").write_text(json.dumps(config))
    return directory


def random_adapter(
    directory: Path,
    shapes: Mapping[str, tuple[int, int]],
    rank: int = 4,
    seed: int = 0,
    size: float = 0.05,
    **changes: Any,
) -> Path:
    """An adapter with normal factors for modules of these (outputs, inputs)."""
    rng = np.random.default_rng(seed)
    factors = {
        module: (rng.normal(0, size, (rank, inputs)), rng.normal(0, size, (outputs, rank)))
        for module, (outputs, inputs) in shapes.items()
    }
    return write_adapter(directory, factors, **changes)
