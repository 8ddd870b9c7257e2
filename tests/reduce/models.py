"""Checkpoints, adapters and a store with trials, written by hand in milliseconds."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import torch
from ruamel.yaml import YAML
from safetensors.torch import save_file

from raylab.reduce import gpu, job, shard
from raylab.weights import row_tiles

EMBED, HEAD = "model.embed_tokens.weight", "lm_head.weight"
Q0, UP0, BIAS0 = (
    f"model.layers.0.{rest}"
    for rest in ("self_attn.q_proj.weight", "mlp.up_proj.weight", "self_attn.q_proj.bias")
)
Q10, NORM = "model.layers.10.self_attn.q_proj.weight", "model.norm.weight"
SHAPES = {
    EMBED: (40, 24),
    Q0: (48, 24),
    UP0: (96, 24),
    BIAS0: (48,),
    Q10: (48, 24),
    NORM: (24,),
}
LINEAR = (Q0, UP0, Q10)


def cut_tiles(monkeypatch, entries):
    """Make every tile about `entries` long and runs two tiles, so that small tensors have several
    of both."""
    monkeypatch.setattr(row_tiles, "TILE_ENTRIES", entries)
    monkeypatch.setattr(shard, "_TOGETHER", 2)


def on_gpu(monkeypatch, entries, kernels=None):
    """Reduce as on a GPU, in tiles of `entries`; its operations run on the CPU."""
    device = gpu.Gpu(torch.device("cpu"), kernels)
    monkeypatch.setattr(gpu, "TILE_ENTRIES", entries)
    monkeypatch.setattr(job, "gpu_for", lambda *_: device)


def random_weights(seed, dtype=torch.bfloat16, shapes=None, scale=0.05):
    """Random tensors of SHAPES, with `shapes` over them; a shape of None leaves a tensor out."""
    draws = torch.Generator().manual_seed(seed)
    wanted = {**SHAPES, **(shapes or {})}
    return {
        name: (scale * torch.randn(shape, generator=draws)).to(dtype)
        for name, shape in wanted.items()
        if shape is not None
    }


def write_checkpoint(directory, tensors, **config):
    """A folder of one safetensors file and a config.json."""
    directory = Path(directory)
    directory.mkdir(parents=True)
    save_file(tensors, directory / "model.safetensors")
    (directory / "config.json").write_text(json.dumps(config))
    return directory


def random_factors(seed, names=LINEAR, rank=4, shapes=None, scale=0.02):
    """{name: (A, B)} in float32."""
    draws = torch.Generator().manual_seed(seed)
    sizes = {**SHAPES, **(shapes or {})}
    return {
        name: (
            torch.randn(rank, sizes[name][1], generator=draws),
            scale * torch.randn(sizes[name][0], rank, generator=draws),
        )
        for name in names
    }


def write_adapter(directory, factors, alpha=8, rank=4):
    """A PEFT adapter of plain LoRA factors, of scale alpha / rank."""
    directory = Path(directory)
    directory.mkdir(parents=True)
    tensors = {}
    for name, (down, up) in factors.items():
        stem = "base_model.model." + name.removesuffix(".weight")
        tensors |= {f"{stem}.lora_A.weight": down, f"{stem}.lora_B.weight": up}
    save_file(tensors, directory / "adapter_model.safetensors")
    config = {"peft_type": "LORA", "r": rank, "lora_alpha": alpha}
    (directory / "adapter_config.json").write_text(json.dumps(config))
    return directory


def deltas_of(factors, alpha=8, rank=4):
    """{name: alpha / rank * B A} in float64."""
    return {name: alpha / rank * (b.double() @ a.double()) for name, (a, b) in factors.items()}


def write_store(out, trials, bases, made="adapter", **study):
    """OUT as `raylab run` leaves it: study.yaml, and for each trial its adapter and its record.

    trials: {name: (id, base model's name, parent's id or None, the model's directory)}.
    bases: {name: checkpoint directory}. made: what the model's directory is called.
    """
    out = Path(out)
    out.mkdir(parents=True)
    values = {
        "name": "made",
        "base_models": {name: {"path": str(path)} for name, path in bases.items()},
        "data": {"D0": {"path": "/nowhere/d0.jsonl"}},
        "recipes": {"sft": {"method": "sft", "data": "D0"}},
        **study,
    }
    with (out / "study.yaml").open("w") as file:
        YAML(typ="safe", pure=True).dump(values, file)
    for name, (trial_id, base, parent, adapter) in trials.items():
        folder = out / "trials" / f"{name}-{trial_id}"
        shutil.copytree(adapter, folder / made)
        _write_record(folder, name, trial_id, bases[base], parent)
    return out


def _write_record(folder, name, trial_id, base, parent):
    identity = {"base_model": _content(Path(base))} | ({"parent": parent} if parent else {})
    files = {
        file.relative_to(folder).as_posix(): {
            "size": file.stat().st_size,
            "sha256": hashlib.sha256(file.read_bytes()).hexdigest(),
        }
        for file in sorted(folder.rglob("*"))
        if file.is_file()
    }
    record = {
        "name": name,
        "id": trial_id,
        "identity": identity,
        "data": {},
        "evaluation": "",
        "versions": {},
        "metrics": {},
        "files": files,
    }
    (folder / "record.json").write_text(json.dumps(record))


def _content(directory):
    """How a base model at a path is identified: by the names and bytes of its files."""
    patterns = ("*.json", "*.safetensors", "*.jinja", "*.model", "*.txt", "*.py")
    files = sorted({file for pattern in patterns for file in directory.glob(pattern)})
    whole = hashlib.sha256()
    for file in files:
        whole.update(f"{file.name}:{hashlib.sha256(file.read_bytes()).hexdigest()}\n".encode())
    return f"content:{whole.hexdigest()[:16]}"
