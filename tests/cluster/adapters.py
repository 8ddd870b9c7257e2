"""Two large random adapters and the reduction of their difference, for tests that kill."""

from __future__ import annotations

import json

import numpy as np
from safetensors.numpy import save_file

from raylab.reduce.job import Job
from raylab.reduce.passes import reduce_pairs
from raylab.reduce.row_block import Pair
from raylab.store.references import ModelLocation

DENSITIES = (0.01, 0.2, 0.5)


def write_adapters(directory, layers=8, width=640):
    """Adapters `a` and `b` below `directory`, of `layers` x 2 matrices."""
    for seed, name in enumerate("ab"):
        rng = np.random.default_rng(seed)
        tensors = {}
        for layer in range(layers):
            for kind in ("self_attn.q_proj", "mlp.up_proj"):
                stem = f"base_model.model.model.layers.{layer}.{kind}"
                for side, shape in (("A", (8, width)), ("B", (width, 8))):
                    values = rng.standard_normal(shape).astype(np.float32)
                    tensors[f"{stem}.lora_{side}.weight"] = values
        (directory / name).mkdir(parents=True)
        save_file(tensors, directory / name / "adapter_model.safetensors")
        config = {
            "peft_type": "LORA",
            "r": 8,
            "lora_alpha": 16,
            "target_modules": ["q_proj", "up_proj"],
        }
        (directory / name / "adapter_config.json").write_text(json.dumps(config))


def job_of(directory):
    """The job that subtracts and relates them."""
    places = {name: ModelLocation((directory / name,)) for name in "ab"}
    return Job(places, (Pair("a~b", "a", "b"),), vectors=("a", "b"), id="adapters")


def tables_of(directory, execute):
    """Everything that the reduction tells, in one comparable value."""
    found = reduce_pairs(job_of(directory), DENSITIES, execute)
    return {"norms": found.norms, "densities": found.densities, "pairs": found.pairs}
