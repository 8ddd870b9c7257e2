"""Adapters as mlx-lm saves them: `adapters.safetensors` and a config of its own.

Model: for each layer the file has `lora_a` (inputs, r) and `lora_b` (r, outputs), and for DoRA the
magnitude `m` (outputs,), which mean (mlx_lm/tuner/lora.py and dora.py, `fuse`)

    linear     delta = scale (lora_a lora_b)^T          DoRA: m / |W + delta| (W + delta) - W
    embedding  delta = scale lora_a lora_b              with lora_a (tokens, r), lora_b (r, width)

so A = lora_a^T and B = lora_b^T of PEFT. `scale` is that of the config, not divided by the rank.
Invariant: every field of the config is read, without effect, or refused by its name, and every
tensor of the file goes into one part.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import torch

from raylab.errors import ModelError
from raylab.weights.adapter_parts import Factors, LowRank, Part
from raylab.weights.safetensors_reader import DTYPES, SafetensorsFolder
from raylab.weights.torch_rows import as_torch

WEIGHTS = "adapters.safetensors"
_KINDS = ("lora_a", "lora_b", "m")
_READ = ("fine_tune_type", "lora_parameters")
_NO_EFFECT = {
    "adapter_path", "batch_size", "beta", "clear_cache_threshold", "config", "data",
    "grad_accumulation_steps", "grad_checkpoint", "hf_dataset", "iters", "learning_rate",
    "lora_layers", "lr_schedule", "mask_prompt", "max_seq_length", "model", "num_layers",
    "optimizer", "optimizer_config", "project_name", "report_to", "resume_adapter_file",
    "save_every", "seed", "steps_per_eval", "steps_per_report", "test", "test_batches", "train",
    "trust_remote_code", "val_batches", "wandb",
}  # fmt: skip
"""How it was trained and on which layers; the file has a tensor for each of them."""
_EMBEDDINGS = ("embed_tokens", "embed_in", "wte", "word_embeddings", "tok_embeddings", "embedding")
_FACTORS_KEPT = 16
_TODO = (
    "write its model, and compare that: mlx_lm.fuse --model BASE_MODEL --adapter-path DIR "
    "--save-path NEW_DIR (with --dequantize where the base model is quantised)"
)


def is_mlx_config(config: Mapping[str, Any]) -> bool:
    """Whether an adapter_config.json is mlx-lm's: it has no peft_type, and fields of its own."""
    return "peft_type" not in config and any(field in config for field in _READ)


def read_mlx_parts(directory: Path, config: Mapping[str, Any]) -> dict[str, tuple[Part, ...]]:
    """The parts of every tensor that the adapter at `directory` changes, by mlx-lm's names.

    Raises ModelError.
    """
    rank, scale = _settings(directory, config)
    is_dora = config.get("fine_tune_type") == "dora"
    folder = SafetensorsFolder(directory, WEIGHTS.removesuffix(".safetensors"))
    modules: dict[str, dict[str, str]] = {}
    refused = []
    for key, dtype in folder.dtypes.items():
        module, _, kind = key.rpartition(".")
        if kind not in _KINDS or dtype not in DTYPES:
            refused.append(f"{key} {folder.shapes[key]} {dtype}")
        else:
            modules.setdefault(module, {})[kind] = key
    if refused:
        raise ModelError(
            "the adapter has tensors that are not read",
            found=f"{directory}: {', '.join(sorted(refused)[:5])} ({len(refused)} in all)",
            expected=f"{', '.join(_KINDS)} of each layer, in {', '.join(DTYPES)}",
            todo=_TODO,
        )
    reader = _Reader(folder, rank, scale)
    return {
        f"{name}.weight": (reader.part(name, kinds, is_dora),) for name, kinds in modules.items()
    }


def _settings(directory: Path, config: Mapping[str, Any]) -> tuple[int, float]:
    """(the rank, the scale). Raises ModelError for what is not read, by its name."""
    kind, given = config.get("fine_tune_type", "lora"), config.get("lora_parameters")
    of_lora: Mapping[str, Any] = given if isinstance(given, dict) else {}
    refused = [f"fine_tune_type: {kind}"] if kind not in ("lora", "dora") else []
    refused += [name for name, v in config.items() if v and name not in {*_NO_EFFECT, *_READ}]
    known = ("rank", "scale", "dropout", "keys")
    refused += [f"lora_parameters.{name}" for name, v in of_lora.items() if v and name not in known]
    if refused:
        raise ModelError(
            "the adapter's config has parts that are not read",
            found=f"{directory}: {', '.join(refused)}",
            expected="fine_tune_type lora or dora, lora_parameters with rank, scale, dropout, keys",
            todo=_TODO,
        )
    rank, scale = of_lora.get("rank"), of_lora.get("scale")
    is_rank = type(rank) is int and rank > 0
    if not is_rank or type(scale) not in (int, float) or not math.isfinite(scale or 0.0):
        raise ModelError(
            "the adapter's config lacks a rank or a scale",
            found=f"{directory}: lora_parameters: {given}",
            expected="a rank, a whole number from 1, and a scale, a number",
        )
    return int(rank or 0), float(scale or 0.0)


class _Reader:
    """Makes the part of one module after the other, and checks shapes before any use."""

    def __init__(self, folder: SafetensorsFolder, rank: int, scale: float) -> None:
        self._folder, self._rank, self._scale = folder, rank, scale
        self._factors = lru_cache(maxsize=_FACTORS_KEPT)(self._read_factors)

    def part(self, module: str, kinds: Mapping[str, str], is_dora: bool) -> LowRank:
        """The part of the weight of `module`. Raises ModelError."""
        shapes = {kind: self._folder.shapes[key] for kind, key in kinds.items()}
        is_embedding = module.rpartition(".")[2] in _EMBEDDINGS
        wanted = ["lora_a", "lora_b", *(["m"] if is_dora else [])]
        a, b = shapes.get("lora_a", ()), shapes.get("lora_b", ())
        fits = sorted(kinds) == wanted and len(a) == len(b) == 2 and a[1] == b[0] == self._rank
        if not fits or (is_dora and (is_embedding or shapes["m"] != (b[1],))):
            raise ModelError(
                f"the factors of {module} do not fit",
                found=", ".join(f"{kind} {shape}" for kind, shape in sorted(shapes.items())),
                expected=f"lora_a (inputs, {self._rank}) and lora_b ({self._rank}, outputs) of a "
                "linear layer or, without DoRA, of an embedding; with DoRA m (outputs,)",
                todo=_TODO,
            )
        read = partial(self._factors, kinds["lora_a"], kinds["lora_b"])
        if is_embedding:
            shape = (a[0], b[1])
            return LowRank(shape, read, transposed=True, embedding=True, rounds_twice=True)
        magnitude = partial(self._float32, kinds["m"]) if is_dora else None
        # mlx-lm rounds the delta to the weight's dtype before it adds it.
        return LowRank((b[1], a[0]), read, rounds_twice=True, magnitude=magnitude)

    def _read_factors(self, a: str, b: str) -> Factors:
        down, up = self._float32(a).T.contiguous(), self._float32(b).T.contiguous()
        return Factors(down, up, self._scale)

    def _float32(self, key: str) -> torch.Tensor:
        return as_torch(self._folder.tensor(key)).to(torch.float32, copy=True)
