"""Lazy readers of weights: a checkpoint, or an adapter, one tensor or a few rows at a time.

Model: a source maps tensor names of the base model ("model.layers.0.self_attn.q_proj.weight")
to shapes, and gives any rows of any of them in float32. A checkpoint's rows are its weights; an
adapter's are its delta, scale * (B @ A), which is never formed whole.
Invariant: opening reads headers only and checks every name and shape; weights come from
safetensors alone, mapped, never loaded whole. The bits of some rows depend on the tensor and
the bounds of the rows, on nothing else. An adapter with parts that are no plain LoRA is refused
by name.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from safetensors import SafetensorError, safe_open

from raylab.errors import ModelError

Shape = tuple[int, ...]


class Source(Protocol):
    """What the reduction reads: named tensors, by rows."""

    @property
    def shapes(self) -> Mapping[str, Shape]:
        """The shape of every tensor, by name."""

    def rows(self, name: str, start: int, stop: int) -> torch.Tensor:
        """Rows [start, stop) of the tensor, float32, contiguous; a vector has one row."""


class SafetensorsFolder:
    """All tensors of the safetensors files of a directory, mapped."""

    def __init__(self, directory: Path) -> None:
        """Open every file of `directory`. Raises ModelError for what is damaged or doubled."""
        self._files: dict[str, Any] = {}
        for file in _weight_files(directory):
            try:
                opened = safe_open(file, framework="pt")
            except (SafetensorError, OSError) as error:
                raise ModelError(
                    f"{file} cannot be read", found=str(error), expected="a safetensors file"
                ) from error
            for key in opened.keys():  # noqa: SIM118  (safe_open is no mapping)
                if key in self._files:
                    raise ModelError(f"two files of {directory} hold the tensor {key}")
                self._files[key] = opened
        if not self._files:
            raise ModelError(
                "no weights found", found=str(directory), expected="*.safetensors files"
            )
        self.shapes = {
            key: tuple(file.get_slice(key).get_shape()) for key, file in self._files.items()
        }

    def tensor(self, name: str) -> torch.Tensor:
        """The whole tensor in its own dtype."""
        loaded: torch.Tensor = self._files[name].get_tensor(name)
        return loaded

    def slice(self, name: str, start: int, stop: int) -> torch.Tensor:
        """Rows [start, stop) in the tensor's own dtype; a vector has one row."""
        if len(self.shapes[name]) < 2:
            return self.tensor(name).reshape(1, -1)[start:stop]
        part: torch.Tensor = self._files[name].get_slice(name)[start:stop]
        return part.reshape(stop - start, -1)


def _weight_files(directory: Path) -> list[Path]:
    index = directory / "model.safetensors.index.json"
    if not index.is_file():
        return sorted(directory.glob("*.safetensors"))
    names = sorted(set(json.loads(index.read_text())["weight_map"].values()))
    for name in names:
        if Path(name).name != name:
            raise ModelError(
                f"{index} points outside its directory",
                found=name,
                expected="names of files beside the index",
            )
    return [directory / name for name in names]


class Checkpoint:
    """The weights of a whole model."""

    def __init__(self, directory: Path) -> None:
        """Open the checkpoint at `directory`. Raises ModelError."""
        self._folder = SafetensorsFolder(directory)
        self.shapes: Mapping[str, Shape] = self._folder.shapes

    def rows(self, name: str, start: int, stop: int) -> torch.Tensor:
        """Rows [start, stop) of the weights, float32."""
        return self._folder.slice(name, start, stop).to(torch.float32).contiguous()


@dataclass(frozen=True)
class Factors:
    """A: (r, columns), B: (rows, r), both float32; delta = scale * (B @ A)."""

    down: torch.Tensor
    up: torch.Tensor
    scale: float


class Adapter:
    """A PEFT LoRA adapter as saved; see `peft.LoraConfig` for the fields of its config."""

    def __init__(self, factors: Mapping[str, Factors]) -> None:
        """Hold factors by the name of the weight that they change."""
        self._factors = dict(factors)
        self.names = tuple(sorted(factors))
        self.shapes: Mapping[str, Shape] = {
            name: (pair.up.shape[0], pair.down.shape[1]) for name, pair in factors.items()
        }

    @classmethod
    def open(cls, directory: Path) -> Adapter:
        """Read the adapter at `directory`; its factors are small and loaded. Raises ModelError."""
        config = _adapter_config(directory)
        folder = SafetensorsFolder(directory)
        names = _factor_names(directory, folder)
        return cls({name: _read_factors(folder, config, name) for name in sorted(names)})

    def factors(self, name: str) -> tuple[torch.Tensor, torch.Tensor, float]:
        """(A, B, scale) of one weight."""
        found = self._factors[name]
        return found.down, found.up, found.scale

    def rows(self, name: str, start: int, stop: int) -> torch.Tensor:
        """Rows [start, stop) of scale * (B @ A), float32."""
        found = self._factors[name]
        # A copy, so that the address of the slice cannot choose another kernel.
        return (found.up[start:stop].clone() @ found.down) * found.scale


_PREFIX = "base_model.model."
_DOWN, _UP = ".lora_A.weight", ".lora_B.weight"
_REFUSED = ("use_dora", "fan_in_fan_out", "modules_to_save", "trainable_token_indices")


def _adapter_config(directory: Path) -> dict[str, Any]:
    file = directory / "adapter_config.json"
    try:
        config: dict[str, Any] = json.loads(file.read_text())
    except (OSError, ValueError) as error:
        raise ModelError(
            f"{file} cannot be read", found=str(error), expected="the config of a PEFT adapter"
        ) from error
    if config.get("peft_type") != "LORA":
        raise ModelError(
            "the adapter is of an unknown type",
            found=f"{directory}: {config.get('peft_type')}",
            expected="LORA",
        )
    refused = [key for key in _REFUSED if config.get(key)]
    if config.get("bias", "none") != "none":
        refused.append("bias")
    if refused:
        raise ModelError(
            "the adapter has parts that are not read",
            found=f"{directory}: {', '.join(refused)}",
            expected="a plain LoRA adapter",
        )
    return config


def _factor_names(directory: Path, folder: SafetensorsFolder) -> set[str]:
    stems = {key.removesuffix(_DOWN).removesuffix(_UP) for key in folder.shapes}
    wanted = {stem + end for stem in stems for end in (_DOWN, _UP)}
    odd = wanted ^ set(folder.shapes)
    if odd:
        raise ModelError(
            "the adapter's tensors do not form pairs",
            found=f"{directory}: {', '.join(sorted(odd)[:5])}",
            expected=f"a {_DOWN} and a {_UP} for each module",
        )
    return {stem.removeprefix(_PREFIX) + ".weight" for stem in stems}


def _read_factors(folder: SafetensorsFolder, config: Mapping[str, Any], name: str) -> Factors:
    stem = _PREFIX + name.removesuffix(".weight")
    down = folder.tensor(stem + _DOWN).to(torch.float32).clone()
    up = folder.tensor(stem + _UP).to(torch.float32).clone()
    if down.dim() != 2 or up.dim() != 2 or up.shape[1] != down.shape[0]:
        raise ModelError(
            f"the factors of {name} do not fit",
            found=f"A {tuple(down.shape)}, B {tuple(up.shape)}",
            expected="A (r, columns) and B (rows, r)",
        )
    return Factors(down, up, _scale(config, name.removesuffix(".weight"), down.shape[0]))


def _scale(config: Mapping[str, Any], module: str, rank: int) -> float:
    """alpha / r, or alpha / sqrt(r) with rsLoRA; patterns name modules by their ending."""
    alpha = config["lora_alpha"]
    for pattern, value in (config.get("alpha_pattern") or {}).items():
        if module == pattern or module.endswith("." + pattern):
            alpha = value
    return float(alpha) / (math.sqrt(rank) if config.get("use_rslora") else rank)
