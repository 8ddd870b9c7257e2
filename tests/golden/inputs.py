"""Small models, adapters, a store and two studies, the same in every run: written from seeds.

The folder that they are written to holds:

- demo/: the study files, the base model and the data of jobs/demo, and study-views.yaml, the quick
  study with all views and a merge;
- base, one, two: Llama checkpoints in bfloat16; part lacks a tensor, short has a smaller
  vocabulary, holes has entries that are NaN or infinite;
- wide-base, wide-a, wide-b: float32 tensors of several row blocks, of magnitudes from 1e-40 to 1e4;
- first, second: LoRA adapters of different rank and target modules; child: an adapter after first;
- store: those three adapters as finished trials of a study, with one and two as its finished
  models, so that OUT#name names them.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file

ATTENTION = ("q_proj", "k_proj", "v_proj", "o_proj")
LINEAR = (*ATTENTION, "gate_proj", "up_proj", "down_proj")
QUERY = "model.layers.1.self_attn.q_proj.weight"
GATE = "model.layers.2.mlp.gate_proj.weight"
EMBEDDING = "model.embed_tokens.weight"
WIDE_SHAPES = {
    "model.embed_tokens.weight": (700, 900),
    "model.layers.0.self_attn.q_proj.bias": (900,),
    "model.layers.0.self_attn.q_proj.weight": (1300, 900),
    "model.layers.1.mlp.up_proj.weight": (400, 900),
    "model.norm.weight": (900,),
}
VIEWS = """
views: [delta, merged, dequantized]
merges:
  mixed: {method: ties, models: [sft-d1, dpo-d0-after-sft-d1], weights: [1, 0.5], density: 0.2}
"""


def write_inputs(work: Path, demo: Path) -> None:
    """Write every input below the new folder `work`; `demo` is jobs/demo."""
    for folder in ("base", "data"):
        shutil.copytree(demo / folder, work / "demo" / folder)
    for name in ("study.yaml", "study-quick.yaml"):
        shutil.copy(demo / name, work / "demo")
    quick = (demo / "study-quick.yaml").read_text(encoding="utf-8")
    more = quick.rstrip() + "\n  - pair: [mixed, sft-d1]\n" + VIEWS
    (work / "demo" / "study-views.yaml").write_text(more, encoding="utf-8")
    _write_checkpoints(work, work / "demo" / "base")
    _write_wide(work)
    base = load_file(work / "base" / "model.safetensors")
    _write_adapter(work / "first", base, LINEAR, rank=8, alpha=16, seed=20)
    _write_adapter(work / "second", base, ATTENTION, rank=4, alpha=12, seed=21)
    _write_adapter(work / "child", base, LINEAR, rank=6, alpha=6, seed=22)
    _write_store(work)


def _write_checkpoints(work: Path, source: Path) -> None:
    base = load_file(source / "model.safetensors")
    one = _with_noise(base, seed=10, scale=1e-2)
    two = _with_noise(base, seed=11, scale=3e-3)
    two[GATE] = base[GATE].clone()  # one tensor that no training moved
    holes = {name: tensor.clone() for name, tensor in two.items()}
    holes[QUERY][3, 5:9] = float("nan")
    holes[GATE][0, 0], holes[GATE][7, 1] = float("inf"), -float("inf")
    models = {
        "base": base,
        "one": one,
        "two": two,
        "holes": holes,
        "part": {name: tensor for name, tensor in two.items() if name != QUERY},
        "short": {**two, EMBEDDING: two[EMBEDDING][:3000].contiguous()},
    }
    for name, tensors in models.items():
        without = shutil.ignore_patterns("*.safetensors")
        shutil.copytree(source, work / name, ignore=without)
        save_file(tensors, work / name / "model.safetensors", metadata={"format": "pt"})


def _with_noise(tensors: dict, seed: int, scale: float) -> dict:
    draws = np.random.default_rng(seed)
    return {
        name: (tensor.float() + scale * _normal(draws, tensor.shape)).to(tensor.dtype)
        for name, tensor in sorted(tensors.items())
    }


def _normal(draws: np.random.Generator, shape: tuple) -> torch.Tensor:
    return torch.from_numpy(draws.standard_normal(tuple(shape), dtype=np.float32))


def _write_wide(work: Path) -> None:
    """Checkpoints in float32. A third of b equals a, a third is close to it, the rest is apart."""
    draws = np.random.default_rng(30)
    models: dict[str, dict] = {"wide-base": {}, "wide-a": {}, "wide-b": {}}
    for name, shape in WIDE_SHAPES.items():
        base, a, apart = (_wide(draws, shape) for _ in range(3))
        close = a * (1 + 1e-6 * draws.standard_normal(shape))
        third = draws.integers(0, 3, shape)
        b = np.where(third == 0, a, np.where(third == 1, close, apart))
        for model, values in zip(models.values(), (base, a, b), strict=True):
            model[name] = torch.from_numpy(values.astype(np.float32))
    for folder, tensors in models.items():
        (work / folder).mkdir()
        (work / folder / "config.json").write_text(json.dumps({"model_type": "llama"}))
        save_file(tensors, work / folder / "model.safetensors", metadata={"format": "pt"})


def _wide(draws: np.random.Generator, shape: tuple) -> np.ndarray:
    """float64 values of either sign, of magnitudes from 1e-40 to 1e4, one in fifty a zero."""
    values = 10.0 ** draws.uniform(-40, 4, shape) * draws.choice([-1.0, 1.0], shape)
    return np.where(draws.random(shape) < 0.02, 0.0, values)


def _write_adapter(
    folder: Path, base: dict, modules: tuple, *, rank: int, alpha: int, seed: int
) -> None:
    """A LoRA adapter as PEFT saves it: A (rank, in), B (out, rank), float32."""
    draws = np.random.default_rng(seed)
    tensors = {}
    for name in sorted(base):
        if name.split(".")[-2] not in modules:
            continue
        rows, columns = base[name].shape
        stem = "base_model.model." + name.removesuffix(".weight")
        tensors[f"{stem}.lora_A.weight"] = _normal(draws, (rank, columns)) / columns**0.5
        tensors[f"{stem}.lora_B.weight"] = 0.02 * _normal(draws, (rows, rank))
    folder.mkdir()
    save_file(tensors, folder / "adapter_model.safetensors", metadata={"format": "pt"})
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "r": rank,
        "lora_alpha": alpha,
        "lora_dropout": 0.0,
        "bias": "none",
        "target_modules": list(modules),
    }
    (folder / "adapter_config.json").write_text(json.dumps(config))


def _write_store(work: Path) -> None:
    """OUT of a study: trials demo.first, demo.second and, after first, demo.child; models one, two.

    Its settings of quantization are what the view `dequantized` needs.
    """
    study = {
        "name": "made",
        "base_models": {"demo": {"path": str(work / "base")}},
        "models": {
            name: {"path": str(work / name), "base_model": "demo"} for name in ("one", "two")
        },
        "data": {"D0": {"path": str(work / "demo" / "data" / "d0.jsonl")}},
        "recipes": {"sft": {"method": "sft", "data": "D0"}},
    }
    (work / "store").mkdir()
    (work / "store" / "study.yaml").write_text(json.dumps(study))  # every JSON is YAML
    parents = {"first": None, "second": None, "child": "first"}
    ids = {name: hashlib.sha256(name.encode()).hexdigest()[:16] for name in parents}
    for name, parent in parents.items():
        folder = work / "store" / "trials" / f"demo.{name}-{ids[name]}"
        shutil.copytree(work / name, folder / "adapter")
        identity = {"base_model": _content(work / "base")}
        record = {
            "name": f"demo.{name}",
            "id": ids[name],
            "identity": identity | ({"parent": ids[parent]} if parent else {}),
            "data": {"data": "D0"},
            "evaluation": "",
            "versions": {},
            "metrics": {},
            "files": {
                f"adapter/{file.name}": {"size": file.stat().st_size, "sha256": sha256(file)}
                for file in sorted((folder / "adapter").iterdir())
            },
        }
        (folder / "record.json").write_text(json.dumps(record))


def sha256(file: Path) -> str:
    """SHA-256 of a file, in hexadecimal digits."""
    return hashlib.sha256(file.read_bytes()).hexdigest()


def _content(directory: Path) -> str:
    """The identity of a base model on a disk, of the names and bytes of its files."""
    patterns = ("*.json", "*.safetensors", "*.jinja", "*.model", "*.txt", "*.py")
    files = sorted({file for pattern in patterns for file in directory.glob(pattern)})
    whole = hashlib.sha256("".join(f"{file.name}:{sha256(file)}\n" for file in files).encode())
    return f"content:{whole.hexdigest()[:16]}"
