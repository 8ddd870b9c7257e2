"""The adapters of a chain as one adapter whose delta is their sum.

Model: s1 B1 A1 + s2 B2 A2 = [s1 B1, s2 B2] [A1; A2], for each layer that any of them changes: the
ranks add up, and the scales are folded into B, so that the one adapter has scale 1 (alpha equal
to the rank). A layer whose rank is not the most common one has it in rank_pattern and
alpha_pattern.
Invariant: the delta is the chain's sum up to float32 rounding: of the fold (none where a scale is
a power of two) and of the order in which a product is added up. Nothing is rounded to the base
model's dtype in between, as merging one adapter after the other does.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from raylab.errors import ModelError
from raylab.weights.adapter_config import AdapterConfig, read_config
from raylab.weights.safetensors_folder import SafetensorsFolder, read_json

_PREFIX = "base_model.model."
_A, _B = ".lora_A.weight", ".lora_B.weight"
CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"


@dataclass(frozen=True)
class _Source:
    """One adapter of the chain: the modules that it changes, and their factors as saved."""

    directory: Path
    config: AdapterConfig
    folder: SafetensorsFolder

    @property
    def modules(self) -> list[str]:
        return [key.removesuffix(_A) for key in self.folder.shapes if key.endswith(_A)]

    def down(self, module: str) -> torch.Tensor:
        """A, (rank, columns)."""
        return self.folder.tensor(module + _A).float()

    def up(self, module: str) -> torch.Tensor:
        """B with its scale, (rows, rank)."""
        scale = self.config.scale_of(module.removeprefix(_PREFIX))
        return self.folder.tensor(module + _B).float() * scale


def concatenate(adapters: Sequence[Path], out: Path) -> None:
    """Write the adapters at `adapters`, the oldest first, as one into the directory `out`.

    Raises ModelError where one of them is more than plain LoRA on linear layers, or where they
    do not fit each other.
    """
    sources = [_open(directory) for directory in adapters]
    modules = list(dict.fromkeys(module for source in sources for module in source.modules))
    tensors: dict[str, torch.Tensor] = {}
    for module in modules:
        own = [source for source in sources if module + _A in source.folder.shapes]
        _check_fit(module, own)
        tensors[module + _A] = torch.cat([source.down(module) for source in own]).contiguous()
        tensors[module + _B] = torch.cat([source.up(module) for source in own], 1).contiguous()
    ranks = {module: tensors[module + _A].shape[0] for module in modules}
    config = _config(sources, {key.removeprefix(_PREFIX): rank for key, rank in ranks.items()})
    save_file(tensors, out / WEIGHTS, metadata={"format": "pt"})
    (out / CONFIG).write_text(json.dumps(config, indent=1, sort_keys=True) + "\n")


def _open(directory: Path) -> _Source:
    config, folder = read_config(directory), SafetensorsFolder(directory, "adapter_model")
    odd = [key for key in folder.shapes if not key.endswith((_A, _B))]
    odd += [key for key in ("use_dora", "fan_in_fan_out", "lora_bias") if getattr(config, key)]
    if odd:
        raise ModelError(
            "an adapter of the chain is more than LoRA on linear layers",
            found=f"{directory}: {', '.join(odd[:3])} ({len(odd)} in all)",
            expected="factors A and B alone",
            todo="publish it with --merged, as a model",
        )
    return _Source(directory, config, folder)


def _check_fit(module: str, sources: Sequence[_Source]) -> None:
    shapes = {(s.folder.shapes[module + _B][0], s.folder.shapes[module + _A][1]) for s in sources}
    if len(shapes) > 1:
        raise ModelError(
            f"the adapters of the chain change {module} in different shapes",
            found=", ".join(map(str, sorted(shapes))),
            expected="one base model",
        )


def _config(sources: Sequence[_Source], ranks: Mapping[str, int]) -> dict[str, Any]:
    """The last adapter's config, with the ranks and scales of the one adapter."""
    found = [read_json(source.directory / CONFIG, "an adapter's config") for source in sources]
    usual = Counter(ranks.values()).most_common(1)[0][0]
    others = {re.escape(module): rank for module, rank in ranks.items() if rank != usual}
    return {
        **found[-1],
        "r": usual,
        "lora_alpha": usual,
        "rank_pattern": others,
        "alpha_pattern": others,
        "use_rslora": False,
        "inference_mode": True,
        "target_modules": _targets(found, ranks),
    }


def _targets(found: Sequence[Mapping[str, Any]], ranks: Mapping[str, int]) -> list[str]:
    """The endings that all adapters target, or else every module by its whole name."""
    targets = [config.get("target_modules") for config in found]
    if isinstance(targets[0], list) and all(
        isinstance(other, list) and {*other} == {*targets[0]} for other in targets
    ):
        return sorted(targets[0])
    return sorted(ranks)


def largest_difference(adapters: Sequence[Path], one: Path) -> float:
    """The largest |delta of `one` - sum of the deltas of `adapters`| over the largest |sum|.

    Deltas are formed in float64, layer by layer.
    """
    sources, whole = [_open(directory) for directory in adapters], _open(one)
    worst, largest = 0.0, 0.0
    for module in whole.modules:
        own = [source for source in sources if module + _A in source.folder.shapes]
        summed = sum(_delta64(source, module) for source in own)
        assert isinstance(summed, torch.Tensor)
        worst = max(worst, float((_delta64(whole, module) - summed).abs().max()))
        largest = max(largest, float(summed.abs().max()))
    return worst / largest if largest else math.inf if worst else 0.0


def _delta64(source: _Source, module: str) -> torch.Tensor:
    scale = source.config.scale_of(module.removeprefix(_PREFIX))
    up, down = source.folder.tensor(module + _B), source.folder.tensor(module + _A)
    return scale * (up.double() @ down.double())
