"""Exports a trial as others load it: a chain as one adapter, or a trial as a whole model.

Model: `concatenate` writes the adapters of a chain as one adapter whose delta is their sum:
s1 B1 A1 + s2 B2 A2 = [s1 B1, s2 B2] [A1; A2] for each layer that any of them changes. The ranks
add up, and the scales are folded into B, so that the one adapter has scale 1 (alpha equals the
rank). A layer whose rank is not the most common one has its rank in rank_pattern and
alpha_pattern. `write_merged` adds each adapter of the chain in float32 and rounds to the base
model's dtype, one after the other. Two weights that the base model ties are both written where an
adapter changes them in two ways, and the config then says that they are not tied.
Invariant: the delta of the one adapter is the chain's sum up to float32 rounding: of the fold
(none where a scale is a power of two), and of the order in which a product is added up. The whole
model has the bits of PEFT's merge of one adapter after the other on a CPU, but for tied weights
that PEFT's merge moves together and its forward pass does not. No tensor is ever held whole.
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
from raylab.spec.weight_files import read_json
from raylab.store.references import ModelLocation
from raylab.weights.adapter_config import AdapterConfig, read_config
from raylab.weights.checkpoint import Checkpoint
from raylab.weights.checkpoint_writer import (
    MOST_BYTES,
    CheckpointWriter,
    TensorSpec,
    copy_config_files,
    write_untied,
)
from raylab.weights.row_tiles import Piece, in_threads, tiles
from raylab.weights.safetensors_reader import SafetensorsFolder
from raylab.weights.torch_rows import as_numpy, as_torch
from raylab.weights.views import DELTA, ViewedModel

PREFIX = "base_model.model."
_A, _B = ".lora_A.weight", ".lora_B.weight"
CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"


@dataclass(frozen=True)
class PlainAdapter:
    """An adapter of factors A and B alone: the modules that it changes, and these as saved.

    Modules are called as in the file, with PEFT's prefix; open one with `open_plain`.
    """

    directory: Path
    config: AdapterConfig
    folder: SafetensorsFolder

    @property
    def modules(self) -> list[str]:
        """Those that it changes, in the order of the file."""
        return [key.removesuffix(_A) for key in self.folder.shapes if key.endswith(_A)]

    def down(self, module: str) -> torch.Tensor:
        """A, (rank, columns)."""
        return as_torch(self.folder.tensor(module + _A)).float()

    def up(self, module: str) -> torch.Tensor:
        """B with its scale, (rows, rank)."""
        return as_torch(self.folder.tensor(module + _B)).float() * self.scale(module)

    def scale(self, module: str) -> float:
        """What B A is multiplied by."""
        return self.config.scale_of(module.removeprefix(PREFIX))

    def stored(self, module: str) -> tuple[torch.Tensor, torch.Tensor]:
        """(B, A) in the file's dtype: (rows, rank) and (rank, columns)."""
        up, down = self.folder.tensor(module + _B), self.folder.tensor(module + _A)
        return as_torch(up), as_torch(down)

    def shape(self, module: str) -> tuple[int, ...]:
        """(rows, columns) of the delta; of a convolution also what the kernel has."""
        down, up = self.folder.shapes[module + _A], self.folder.shapes[module + _B]
        return up[0], *down[1:]

    def rank(self, module: str) -> int:
        """The rows of A."""
        return self.folder.shapes[module + _A][0]


def concatenate(adapters: Sequence[Path], out: Path) -> None:
    """Write the adapters at `adapters`, the oldest first, as one into the directory `out`.

    Raises ModelError where one of them is more than plain LoRA on linear layers, or where they
    do not fit each other.
    """
    sources = [open_plain(directory) for directory in adapters]
    modules = list(dict.fromkeys(module for source in sources for module in source.modules))
    tensors: dict[str, torch.Tensor] = {}
    for module in modules:
        own = [source for source in sources if module + _A in source.folder.shapes]
        shapes = {(s.folder.shapes[module + _B][0], s.folder.shapes[module + _A][1]) for s in own}
        if len(shapes) > 1:
            raise ModelError(
                f"the adapters of the chain change {module} in different shapes",
                found=", ".join(map(str, sorted(shapes))),
                expected="one base model",
            )
        tensors[module + _A] = torch.cat([source.down(module) for source in own]).contiguous()
        tensors[module + _B] = torch.cat([source.up(module) for source in own], 1).contiguous()
    ranks = {module: tensors[module + _A].shape[0] for module in modules}
    config = _config(sources, {key.removeprefix(PREFIX): rank for key, rank in ranks.items()})
    save_file(tensors, out / WEIGHTS, metadata={"format": "pt"})
    (out / CONFIG).write_text(json.dumps(config, indent=1, sort_keys=True) + "\n")


def open_plain(directory: Path) -> PlainAdapter:
    """The adapter at `directory`. Raises ModelError."""
    config, folder = read_config(directory), SafetensorsFolder(directory, "adapter_model")
    refused = [key for key in folder.shapes if not key.endswith((_A, _B))]
    fields = ("use_dora", "fan_in_fan_out", "lora_bias", "target_parameters", "use_qalora")
    refused += [key for key in fields if getattr(config, key)]
    if config.decomposition:
        refused.append(f"init_lora_weights: {config.init_lora_weights}")
    if refused:
        raise ModelError(
            "an adapter of the chain is more than LoRA on linear layers",
            found=f"{directory}: {', '.join(refused[:3])} ({len(refused)} in all)",
            expected="factors A and B alone",
            todo="publish it with --merged, as a model",
        )
    return PlainAdapter(directory, config, folder)


def _config(sources: Sequence[PlainAdapter], ranks: Mapping[str, int]) -> dict[str, Any]:
    """The last adapter's config, with the ranks and scales of the one adapter."""
    configs = [read_json(source.directory / CONFIG, "an adapter's config") for source in sources]
    usual = Counter(ranks.values()).most_common(1)[0][0]
    others = {re.escape(module): rank for module, rank in ranks.items() if rank != usual}
    # Where all adapters target the same endings, these; else every module by its whole name.
    targets: list[Any] = [config.get("target_modules") for config in configs]
    are_lists = all(isinstance(endings, list) for endings in targets)
    is_same = are_lists and all({*endings} == {*targets[0]} for endings in targets)
    return {
        **configs[-1],
        "r": usual,
        "lora_alpha": usual,
        "rank_pattern": others,
        "alpha_pattern": others,
        "use_rslora": False,
        "inference_mode": True,
        "target_modules": sorted(targets[0] if is_same else ranks),
    }


def largest_difference(adapters: Sequence[Path], one: Path) -> float:
    """The largest |delta of `one` - sum of the deltas of `adapters`| over the largest |sum|.

    Deltas are formed in float64, layer by layer.
    """
    sources, whole = [open_plain(directory) for directory in adapters], open_plain(one)
    worst, largest = 0.0, 0.0
    for module in whole.modules:
        own = [source for source in sources if module + _A in source.folder.shapes]
        summed = sum(_float64_delta(source, module) for source in own)
        assert isinstance(summed, torch.Tensor)
        worst = max(worst, float((_float64_delta(whole, module) - summed).abs().max()))
        largest = max(largest, float(summed.abs().max()))
    return worst / largest if largest else math.inf if worst else 0.0


def _float64_delta(source: PlainAdapter, module: str) -> torch.Tensor:
    up, down = source.stored(module)
    return source.scale(module) * (up.double() @ down.double())


def write_merged(
    location: ModelLocation, directory: Path, threads: int, most_bytes: int = MOST_BYTES
) -> None:
    """Write the model at `location` into `directory`, with the base model's config and tokenizer.

    Raises ModelError where the base model is not on this machine, OutError and StoreError.
    """
    if location.base is None:
        raise ModelError(
            "a merged model needs the base model's weights",
            expected="the base model on this machine",
            todo="download it, or publish the adapter without --merged",
        )
    template = Checkpoint(location.base)
    model = ViewedModel(location, DELTA, template)
    untied = {
        name: template.shapes[partner]
        for alias, partner in template.aliases.items()
        for name in model.untied_names(alias, partner)
    }
    shapes = {**template.shapes, **untied}
    plans = [TensorSpec(name, template.dtype(name), shape) for name, shape in shapes.items()]
    pieces = [(name, *rows) for name, shape in shapes.items() for rows in tiles(shape)]
    with CheckpointWriter(directory, plans, most_bytes) as writer:

        def write(piece: Piece) -> None:
            writer.write_rows(piece[0], piece[1], as_numpy(model.saved(*piece).contiguous()))

        in_threads(pieces, write, threads)
    copy_config_files(location.base, directory)
    if untied:
        write_untied(directory)
