"""A reduction of two small adapters, for what it leaves in the process.

Model: a first run compiles its loops, 5 s of one core, and a reduction loads modules as it goes. A
process that will reduce adapters on a CPU rehearses while it has nothing else to do: it writes two
adapters of one layer into a temporary directory, and measures and relates them.
Invariant: nothing of it is kept but modules and machine code. A rehearsal runs every loop that
norms, thresholds, pairs and groups of adapters run; only how the weights of a base model are
squared, which depends on their dtype, is no part of it.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from raylab.reduce.job import InProcess, Job
from raylab.reduce.passes import reduce_pairs
from raylab.reduce.row_block import Pair
from raylab.reduce.tables import Tables
from raylab.store.references import ModelLocation

_NAMES = ("a", "b")
_RANK, _ROWS, _COLUMNS = 2, 48, 32


def rehearse() -> Tables:
    """The rows of the two adapters, which mean nothing."""
    with tempfile.TemporaryDirectory(prefix="raylab-rehearsal-") as work:
        places = {name: ModelLocation(adapters=(_adapter(Path(work) / name),)) for name in _NAMES}
        job = Job(places, (Pair("a~b", *_NAMES),), vectors=_NAMES, groups=(_NAMES,), device="cpu")
        return reduce_pairs(job, [0.5, 1], InProcess(), shards=1)


def _adapter(directory: Path) -> Path:
    """An adapter as PEFT saves it."""
    directory.mkdir()
    config = {"peft_type": "LORA", "r": _RANK, "lora_alpha": _RANK, "target_modules": ["q_proj"]}
    (directory / "adapter_config.json").write_text(json.dumps(config))
    draws = np.random.default_rng(ord(directory.name))
    factors = {
        f"base_model.model.model.layers.0.self_attn.q_proj.lora_{side}.weight": draws.normal(
            size=size
        ).astype(np.float32)
        for side, size in (("A", (_RANK, _COLUMNS)), ("B", (_ROWS, _RANK)))
    }
    save_file(factors, directory / "adapter_model.safetensors")
    return directory
