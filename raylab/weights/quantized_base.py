"""The weights that a training starts from: a base model with merged adapters, and its 4-bit form.

Model: `MergedWeights` is the checkpoint that a chained trial starts from. `HeldWeights` are the
weights that its training holds in memory: dequantise(quantise(start)) of every linear layer, as
bitsandbytes does it for QLoRA (Dettmers et al. 2023, arXiv:2305.14314). transformers casts a
weight to the compute dtype first. The output head, embeddings and vectors are not quantised, and
stay as they are stored.
Invariant: rows depend on the tensor and their bounds alone, for any other reads and threads.
Quantisation works on blocks of 64 consecutive entries, so rows are quantised with the blocks that
they touch, and the whole tensor is never formed. Only double quantisation looks beyond a block:
its scales, one for 64 entries, are computed once for the whole tensor and kept.

Numbers are those of bitsandbytes on a CPU, except for one fault of 0.50.2: with AVX512 it
dequantises a whole matrix with wrong scales where the width is a multiple of 16 and not of 64.
This module dequantises a flat run of blocks, which bitsandbytes does correctly.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from functools import cached_property, lru_cache
from itertools import pairwise
from threading import Lock
from typing import Any

import torch

from raylab.spec.study import Quantization
from raylab.weights.adapter import Adapter
from raylab.weights.checkpoint import Weights
from raylab.weights.memory_names import names_of_first_class
from raylab.weights.row_tiles import TILE_ENTRIES
from raylab.weights.safetensors_reader import Shape

_BLOCK = 64
_SCALES_KEPT = 4
"""Tensors whose doubly quantised scales are kept: 1/16 of the bytes of a bf16 tensor each."""
_EXPERTS = re.compile(r"\.(experts|block_sparse_moe)\.")
_NOT_LINEAR = (
    "embed_tokens", "embed_in", "embed", "wte", "wpe", "word_embeddings", "embed_out", "lm_head",
)  # fmt: skip


class MergedWeights:
    """A base model with `adapters` merged in, the oldest first, rounded after each."""

    def __init__(self, base: Weights, adapters: Sequence[Adapter]) -> None:
        """Nothing is read yet."""
        self._base, self._adapters = base, tuple(adapters)
        self.shapes: Mapping[str, Shape] = base.shapes
        self.stored_name, self.is_alias = base.stored_name, base.is_alias
        self.names_in_memory = base.names_in_memory

    def raw(self, name: str, start: int, stop: int) -> torch.Tensor:
        """Rows [start, stop) in the base model's dtype."""
        rows = self._base.raw(name, start, stop)
        for adapter in self._adapters:
            rows = adapter.merged(name, start, stop, rows)
        return rows


class HeldWeights:
    """The weights `start` as training holds them: cast to the compute dtype, or in 4 bits."""

    def __init__(self, start: Weights, quantization: Quantization) -> None:
        """Nothing is read yet."""
        self._start, self._quantization = start, quantization
        self.shapes: Mapping[str, Shape] = start.shapes
        self.stored_name, self.is_alias = start.stored_name, start.is_alias
        self.names_in_memory = start.names_in_memory
        self._dtype: torch.dtype = getattr(torch, quantization.compute_dtype)
        self._lock = Lock()
        self._kept_scales = lru_cache(maxsize=_SCALES_KEPT)(self._scales)

    def raw(self, name: str, start: int, stop: int) -> torch.Tensor:
        """Rows [start, stop): float32 of a linear layer, else as they are stored."""
        from bitsandbytes.functional import dequantize_4bit

        if not self._is_linear(name):
            rows = self._start.raw(name, start, stop)
            return rows.to(self._dtype).float() if self._is_stacked(name) else rows
        if self._quantization.bits == 16:
            return self._start.raw(name, start, stop).to(self._dtype).float()
        height, width = self.shapes[name]
        first = start * width // _BLOCK * _BLOCK
        last = min(height * width, -(-stop * width // _BLOCK) * _BLOCK)
        scales = None
        if self._quantization.double:
            with self._lock:
                scales = self._kept_scales(name)[first // _BLOCK : -(-last // _BLOCK)]
        packed, state = self._quantize(self._entries(name, first, last))
        if scales is not None:
            state.absmax = scales.clone()
        held: torch.Tensor = dequantize_4bit(packed, state).reshape(-1)
        rows = held[start * width - first : stop * width - first].view(stop - start, width)
        return rows.float()

    def _is_linear(self, name: str) -> bool:
        """Whether transformers makes a 4-bit layer of it: every linear one but the output head."""
        if not name.endswith(".weight") or _module(name) in _NOT_LINEAR:
            return False
        if self._parameters is not None and name in self._parameters:
            return False
        return len(self.shapes[name]) == 2

    def _is_stacked(self, name: str) -> bool:
        """Whether it is a matrix, or several, that no linear layer owns: experts, routers."""
        names = self._parameters
        return names is not None and len(self.shapes[name]) > 1 and name in names

    @cached_property
    def _parameters(self) -> frozenset[str] | None:
        """Of a mixture of experts, the tensors that become no 4-bit layer, by the files' names;
        None for other models, whose names say what they are.

        transformers makes parameters of experts, and bitsandbytes quantises layers alone.
        """
        if not any(_EXPERTS.search(name) for name in self.shapes):
            return None
        names = names_of_first_class(self._start.names_in_memory)
        linear = {names.in_files[name] for name in names.linear if name in names.in_files}
        embeddings = {
            n for n in self.shapes if n.split(".")[-2:-1] and n.split(".")[-2] in _NOT_LINEAR
        }
        return frozenset({*self.shapes} - linear - embeddings)

    def _entries(self, name: str, first: int, last: int) -> torch.Tensor:
        """Entries [first, last) of the flat tensor, in the compute dtype."""
        width = self.shapes[name][1]
        top = first // width
        rows = self._start.raw(name, top, -(-last // width)).to(self._dtype)
        return rows.reshape(-1)[first - top * width : last - top * width]

    def _quantize(self, entries: torch.Tensor) -> tuple[torch.Tensor, Any]:
        """(packed codes, bitsandbytes' QuantState)."""
        from bitsandbytes.functional import quantize_4bit

        found: tuple[torch.Tensor, Any] = quantize_4bit(
            entries, blocksize=_BLOCK, quant_type=self._quantization.type
        )
        return found

    def _scales(self, name: str) -> torch.Tensor:
        """The scale of every block of a tensor, float32, after its own quantisation to 8 bits.

        As bitsandbytes' compress_statistics: their mean is taken off, the rest quantised in
        blocks of 256.
        """
        from bitsandbytes.functional import dequantize_blockwise, quantize_blockwise

        numel = math.prod(self.shapes[name])
        bounds = [*range(0, numel, TILE_ENTRIES), numel]
        scales = torch.cat(
            [self._quantize(self._entries(name, *pair))[1].absmax for pair in pairwise(bounds)]
        )
        offset = scales.mean()
        codes, state = quantize_blockwise(scales - offset, blocksize=256)
        found: torch.Tensor = dequantize_blockwise(codes, state) + offset
        return found


def _module(name: str) -> str:
    """model.layers.0.mlp.up_proj.weight -> up_proj."""
    return name.rpartition(".")[0].rpartition(".")[2]
