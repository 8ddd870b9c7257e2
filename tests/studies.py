"""Small studies, rows and checkpoints that tests share."""

import json
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from raylab.plan.trials import Inputs
from raylab.spec.data.rows import Row
from raylab.spec.models import ResolvedModel
from raylab.spec.study import Study

D0 = [(f"質問{i}", f"答え{i}です。") for i in range(12)]
D1 = [(f"質問{i}", f"答え{i}ですわ。") for i in range(12)]


def write_checkpoint(directory, seed=0):
    """A folder that looks like a base model: config.json and a small safetensors file."""
    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "config.json").write_text('{"model_type": "llama"}')
    weights = np.random.default_rng(seed).standard_normal((4, 3)).astype(np.float32)
    save_file({"layer.weight": weights, "bias": weights[0].copy()}, directory / "model.safetensors")
    return directory


def write_jsonl(path, rows, names=("prompt", "completion")):
    lines = [json.dumps(dict(zip(names, row, strict=True)), ensure_ascii=False) for row in rows]
    Path(path).write_text("\n".join(lines) + "\n", encoding="utf-8")
    return Path(path)


CHAIN = {
    "alone": {"method": "sft", "data": "D0"},
    "first": {"method": "sft", "data": "D2"},
    "second": {"method": "dpo", "chosen": "D0", "rejected": "D1", "parent": "first"},
    "third": {"method": "dpo", "chosen": "D1", "rejected": "D0", "parent": "second"},
    "other": {"method": "dpo", "chosen": "D1", "rejected": "D0", "parent": "alone"},
}


def study_values(**changes):
    return {
        "name": "demo",
        "base_models": {"tiny": {"path": "base"}},
        "data": {
            "D0": {"path": "d0.jsonl"},
            "D1": {"path": "d1.jsonl"},
            "D2": {"concat": ["D0", "D1"]},
        },
        "recipes": CHAIN,
        **changes,
    }


def make_study(**changes):
    return Study.model_validate(study_values(**changes))


def make_inputs(study, content="content:aa", rows=None):
    """Inputs as if found on disk, without a disk."""
    texts = rows or {"D0": D0, "D1": D1}
    plain = {name: [Row.of(*row) for row in texts[name]] for name in texts}
    joined = {
        name: [row for part in data.concat for row in plain[part]]
        for name, data in study.data.items()
        if data.concat
    }
    models = {n: ResolvedModel(n, f"{content}.{n}", Path("/nowhere"), n) for n in study.base_models}
    return Inputs(models, {}, {**plain, **joined})


def write_study_folder(folder, **changes):
    """A study file (YAML is a superset of JSON) with everything it names beside it."""
    folder = Path(folder)
    write_checkpoint(folder / "base")
    write_jsonl(folder / "d0.jsonl", D0)
    write_jsonl(folder / "d1.jsonl", D1)
    (folder / "study.yaml").write_text(json.dumps(study_values(**changes), ensure_ascii=False))
    return folder / "study.yaml"
