"""Synthetic models for the bench, written as a stream: never a whole tensor in memory.

Checkpoints are bf16, Llama-shaped and sharded. A trained one is the base plus 0.5 % of noise,
rounded, as full fine-tuning leaves it; embeddings, head and norms stay untouched. Adapters are
random, in float32, on all linear layers. The same seed gives the same bytes.
"""

from __future__ import annotations

import json
import math
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

Shape = tuple[int, ...]

RANK, ALPHA = 8, 16
_CHUNK = 1 << 22  # entries made at a time
_SHARD_BYTES = 256 << 20


@dataclass(frozen=True)
class Llama:
    """The sizes of a Llama: key_value is the width of its keys and values."""

    hidden: int
    intermediate: int
    key_value: int
    layers: int
    vocabulary: int

    def linear(self) -> Iterator[tuple[str, tuple[int, int]]]:
        """(name, shape) of the weights that an adapter on all linear layers changes."""
        wide, kv, inner = self.hidden, self.key_value, self.intermediate
        kinds = {
            "self_attn.q_proj": (wide, wide),
            "self_attn.k_proj": (kv, wide),
            "self_attn.v_proj": (kv, wide),
            "self_attn.o_proj": (wide, wide),
            "mlp.gate_proj": (inner, wide),
            "mlp.up_proj": (inner, wide),
            "mlp.down_proj": (wide, inner),
        }
        for layer in range(self.layers):
            for kind, shape in kinds.items():
                yield f"model.layers.{layer}.{kind}", shape

    def untouched(self) -> Iterator[tuple[str, Shape]]:
        """(name, shape) of the tensors that training leaves alone here."""
        yield "model.embed_tokens.weight", (self.vocabulary, self.hidden)
        yield "lm_head.weight", (self.vocabulary, self.hidden)
        yield "model.norm.weight", (self.hidden,)
        for layer in range(self.layers):
            for norm in ("input_layernorm", "post_attention_layernorm"):
                yield f"model.layers.{layer}.{norm}.weight", (self.hidden,)

    def shapes(self) -> dict[str, Shape]:
        """The shape of every tensor."""
        linear = {f"{name}.weight": shape for name, shape in self.linear()}
        return {**linear, **dict(self.untouched())}

    def config(self) -> dict[str, Any]:
        """Its config.json."""
        head = min(128, self.key_value)
        return {
            "architectures": ["LlamaForCausalLM"],
            "model_type": "llama",
            "hidden_size": self.hidden,
            "intermediate_size": self.intermediate,
            "num_hidden_layers": self.layers,
            "num_attention_heads": self.hidden // head,
            "num_key_value_heads": self.key_value // head,
            "head_dim": head,
            "vocab_size": self.vocabulary,
            "tie_word_embeddings": False,
            "torch_dtype": "bfloat16",
        }


HALF_B = Llama(1536, 4096, 512, 16, 32000)
SEVEN_B = Llama(4096, 11008, 4096, 32, 32000)
EIGHT_B = Llama(4096, 14336, 1024, 32, 128256)

Chunks = Callable[[str, Shape], Iterable[torch.Tensor]]


def write_safetensors(file: Path, shapes: dict[str, Shape], dtype: str, chunks: Chunks) -> None:
    """Write a safetensors file as a stream; `chunks(name, shape)` yields a tensor's parts."""
    width = {"BF16": 2, "F32": 4}[dtype]
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, shape in shapes.items():
        begin, end = end, end + width * math.prod(shape)
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with file.open("wb") as out:
        out.write(len(text).to_bytes(8, "little") + text)
        for name, shape in shapes.items():
            for chunk in chunks(name, shape):
                out.write(chunk.contiguous().view(torch.uint8).numpy().data)


def write_checkpoint(directory: Path, model: Llama, trained: int = 0) -> Path:
    """A sharded bf16 checkpoint: the base model, or one trained from it with seed `trained`."""
    directory.mkdir(parents=True)
    touched = {f"{name}.weight" for name, _ in model.linear()}

    def chunks(name: str, shape: Shape) -> Iterator[torch.Tensor]:
        # A generator looks at the lower 32 bits of its seed alone.
        base, noise = (
            torch.Generator().manual_seed(zlib.crc32(f"{name} {seed}".encode()))
            for seed in (0, trained)
        )
        for start in range(0, math.prod(shape), _CHUNK):
            size = min(_CHUNK, math.prod(shape) - start)
            weights = (0.02 * torch.randn(size, generator=base)).bfloat16()
            if trained and name in touched:
                weights = (weights + 1e-4 * torch.randn(size, generator=noise)).bfloat16()
            yield weights

    files = _split(model.shapes())
    names = [f"model-{i:05}-of-{len(files):05}.safetensors" for i in range(1, len(files) + 1)]
    for name, shapes in zip(names, files, strict=True):
        write_safetensors(directory / name, shapes, "BF16", chunks)
    index = {key: name for name, shapes in zip(names, files, strict=True) for key in shapes}
    text = json.dumps({"metadata": {"total_size": bytes_of(directory)}, "weight_map": index})
    (directory / "model.safetensors.index.json").write_text(text)
    (directory / "config.json").write_text(json.dumps(model.config()))
    return directory


def _split(shapes: dict[str, Shape]) -> list[dict[str, Shape]]:
    """Tensors as they are dealt out to files of about _SHARD_BYTES."""
    files: list[dict[str, Shape]] = [{}]
    for name, shape in shapes.items():
        if sum(2 * math.prod(s) for s in files[-1].values()) >= _SHARD_BYTES:
            files.append({})
        files[-1][name] = shape
    return files


def write_adapter(directory: Path, model: Llama, seed: int) -> Path:
    """A random adapter in float32 on all linear layers."""
    directory.mkdir(parents=True)
    shapes: dict[str, Shape] = {}
    for name, (rows, columns) in model.linear():
        shapes[f"base_model.model.{name}.lora_A.weight"] = (RANK, columns)
        shapes[f"base_model.model.{name}.lora_B.weight"] = (rows, RANK)
    generator = torch.Generator().manual_seed(seed)
    write_safetensors(
        directory / "adapter_model.safetensors",
        shapes,
        "F32",
        lambda _, shape: [0.01 * torch.randn(shape, generator=generator)],
    )
    config = {"peft_type": "LORA", "r": RANK, "lora_alpha": ALPHA, "target_modules": "all-linear"}
    (directory / "adapter_config.json").write_text(json.dumps(config))
    return directory


def bytes_of(*directories: Path) -> int:
    """The bytes of the safetensors files."""
    return sum(f.stat().st_size for d in directories for f in d.glob("*.safetensors"))
