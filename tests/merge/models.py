"""Small checkpoints to be merged, on disk."""

from __future__ import annotations

import json

import numpy as np
import torch
from safetensors.torch import save_file

from raylab.store.references import ModelLocation

SHAPES = {"a.weight": (6, 5), "b.weight": (3, 8), "norm.weight": (7,), "deep.0.weight": (2, 3, 2)}
NAMES = {torch.bfloat16: "bfloat16", torch.float16: "float16", torch.float32: "float32"}


def drawn(seed, kind="normal", dtype=torch.bfloat16):
    """Values of all SHAPES; kinds as they come out of training, and as nobody wants them."""
    random = np.random.default_rng(seed)
    factor = {"tiny": 1e-38, "huge": 1e30 if dtype != torch.float16 else 1e3}.get(kind, 1.0)
    values = {name: random.standard_normal(shape) * factor for name, shape in SHAPES.items()}
    if kind in ("tied", "adversarial"):
        values = {name: np.round(value) for name, value in values.items()}
    return {n: torch.from_numpy(v).to(torch.float32).to(dtype) for n, v in values.items()}


def near(base, seed, kind="normal"):
    """A model trained from `base`: sparse ones moved few entries, adversarial ones all by the
    same, to and fro, so that everything ties and much cancels."""
    random = np.random.default_rng(seed)
    moved = {}
    for name, values in base.items():
        step = random.standard_normal(tuple(values.shape)) * 0.1
        if kind == "sparse":
            step *= random.random(tuple(values.shape)) < 0.1
        scale = float(values.float().abs().max()) or 1.0
        if kind == "adversarial":
            step, scale = random.choice([0.25, -0.25], tuple(values.shape)), 1.0
        moved[name] = (values.double() + torch.from_numpy(step * scale)).to(values.dtype)
    return moved


def saved(directory, tensors, **config):
    directory.mkdir(parents=True)
    save_file(tensors, directory / "model.safetensors", metadata={"format": "pt"})
    (directory / "config.json").write_text(json.dumps({"model_type": "llama", **config}))
    return directory


def made(tmp_path, kind="normal", dtype=torch.bfloat16, models=2):
    base = drawn(0, kind, dtype)
    others = [near(base, seed + 1, kind) for seed in range(models)]
    paths = [saved(tmp_path / f"m{i}", values) for i, values in enumerate([base, *others])]
    return base, others, paths


def place(path):
    is_adapter = (path / "adapter_config.json").exists()
    return ModelLocation(adapters=(path,)) if is_adapter else ModelLocation(checkpoint=path)
