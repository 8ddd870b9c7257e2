"""Synthetic models that checks read: pairs of checkpoints in any dtype, and large ones quickly.

Invariant: the same arguments give the same bytes. A large checkpoint repeats blocks of random
numbers: its sums are those of no trained model, but each of its bytes is read and counted.
"""

from __future__ import annotations

import json
import math
import zlib
from collections.abc import Iterator
from pathlib import Path

import torch
from bench_models import Llama, Shape, write_safetensors
from safetensors.torch import save_file

DTYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16, "float32": torch.float32}
TINY = Llama(hidden=256, intermediate=704, key_value=64, layers=2, vocabulary=1000)
MIDDLE = Llama(hidden=1024, intermediate=2816, key_value=256, layers=4, vocabulary=32000)
_BLOCK = 1 << 24
_SHARD = 16


def write_model(directory: Path, model: Llama, dtype: str, seed: int = 0) -> Path:
    """A checkpoint in `dtype`; a `seed` above 0 moves the linear layers of seed 0 a little."""
    directory.mkdir(parents=True)
    moved = {f"{name}.weight" for name, _ in model.linear()}
    tensors = {}
    for name, shape in model.shapes().items():
        values = 0.02 * torch.randn(shape, generator=_generator(name, 0))
        if seed and name in moved:
            noise = 1e-4 * torch.randn(shape, generator=_generator(name, seed))
            values = values.to(DTYPES[dtype]).float() + noise
        tensors[name] = values.to(DTYPES[dtype])
    save_file(tensors, directory / "model.safetensors", {"format": "pt"})
    write_config(directory, model, dtype)
    return directory


def write_config(directory: Path, model: Llama, dtype: str) -> None:
    """config.json of a Llama."""
    (directory / "config.json").write_text(json.dumps(model.config() | {"torch_dtype": dtype}))


def _generator(name: str, seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(zlib.crc32(f"{name} {seed}".encode()))


def write_large_pair(directory: Path, model: Llama, device: str) -> tuple[Path, Path]:
    """Two bf16 checkpoints of `model`, as fast as the disk takes them."""
    size = min(_BLOCK, max(math.prod(shape) for shape in model.shapes().values()))
    first = 0.02 * torch.randn(size, generator=torch.Generator().manual_seed(1))
    moves = 1e-4 * torch.randn(size, generator=torch.Generator().manual_seed(2))
    blocks = first.bfloat16(), (first.bfloat16().float() + moves).bfloat16()
    paths = directory / "a", directory / "b"
    for path, block in zip(paths, blocks, strict=True):
        path.mkdir(parents=True)
        _write_repeated(path, model, block)
    return paths


def _write_repeated(directory: Path, model: Llama, block: torch.Tensor) -> None:
    def chunks(name: str, shape: Shape) -> Iterator[torch.Tensor]:
        # Where a tensor begins in the block depends on its name, so that rows of tensors differ.
        left, start = math.prod(shape), zlib.crc32(name.encode()) % (len(block) // 2)
        while left:
            part = block[start : start + left]
            left, start = left - len(part), 0
            yield part

    names = list(model.shapes())
    index: dict[str, str] = {}
    for number, first in enumerate(range(0, len(names), _SHARD)):
        file = f"model-{number:05}.safetensors"
        shapes = {name: model.shapes()[name] for name in names[first : first + _SHARD]}
        write_safetensors(directory / file, shapes, "BF16", chunks)
        index |= dict.fromkeys(shapes, file)
    text = json.dumps({"metadata": {}, "weight_map": index})
    (directory / "model.safetensors.index.json").write_text(text)
    write_config(directory, model, "bfloat16")


def entries_of(model: Llama, *, linear_only: bool = False) -> int:
    """The entries of a model, or of the linear layers that adapters change."""
    shapes = [shape for _, shape in model.linear()] if linear_only else model.shapes().values()
    return sum(math.prod(shape) for shape in shapes)
