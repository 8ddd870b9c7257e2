"""The changes that an adapter makes to one tensor of its base model, as kinds of parts.

Model: a part turns rows of the weight that the adapter starts from, W, into rows of the delta
(float32) and rows of the merged weight (W's dtype):

    kind           delta                               merged
    LowRank        s B A                               round(W + s B A)
      embedding    s (B A)^T                           round(W + round(s (B A)^T))
      DoRA         m / |W + s B A| (W + s B A) - W     round(m / |W + s B A| (W + s B A))
      Decomposed   s (B A - B0 A0)                     round(round(W - s B0 A0) + s B A)
    Replaced       saved - W                           round(saved)
    TrainedTokens  saved - W in these rows, else 0     round(saved) in these rows, else W
    BiasShift      s b                                 round(W + s b)

LoRA: Hu et al. 2021, arXiv:2106.09685, equation 3. DoRA: Liu et al. 2024, arXiv:2402.09353,
equation 5, with |.| the L2 norm of each row of the stored weight (an output's weights), which
the paper stores as a column.
Of a convolution, (outputs, inputs, kernel), A and the weight are read with a row for each output.
Invariant: `merged` has the bits of PEFT 0.21's `merge_and_unload` on a CPU for any full-width row
tile, but for convolutions, whose product PEFT adds up in another order; `delta` depends on the
tensor and the tile's bounds alone, given one BLAS thread.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch

from raylab.weights.safetensors_reader import Shape

MIN_PRODUCT_ROWS = 16
"""BLAS has special kernels, with other bits, for products of a few rows (seen: up to 3) or columns
(up to 11): the rows of a smaller tile are taken from a product of this size."""

Rows = Callable[[int, int], torch.Tensor]
"""Rows [start, stop) of a tensor that the adapter stores, 2-D, in the file's dtype."""


class Part(Protocol):
    """One kind of change to one tensor."""

    @property
    def shape(self) -> Shape:
        """The shape of the tensor that it changes."""

    @property
    def needs_weight(self) -> bool:
        """Whether the delta depends on the weight that the adapter starts from."""

    @property
    def moves_tied(self) -> bool:
        """Whether PEFT's forward pass changes the weights that are tied to this one as well."""

    def delta(self, start: int, stop: int, weight: torch.Tensor | None) -> torch.Tensor:
        """Rows of the delta, float32; `weight`: the same rows of W, 2-D, in any float dtype."""

    def merged(self, start: int, stop: int, weight: torch.Tensor) -> torch.Tensor:
        """Rows of the merged weight in the dtype of `weight`."""


@dataclass(frozen=True)
class Factors:
    """A: (r, columns), B: (rows, r), both float32; delta = scale * (B @ A)."""

    down: torch.Tensor
    up: torch.Tensor
    scale: float

    @property
    def rank(self) -> int:
        """r."""
        return self.down.shape[0]


@dataclass(frozen=True)
class LowRank:
    """LoRA on a linear layer, an embedding or a convolution, and DoRA on a linear layer.

    `factors` reads them when asked, since those of all tensors together would add up.
    `transposed`: the layer keeps its weight as (columns, rows), as Conv1D and embeddings do.
    `embedding`: the layer is one.
    `rounds_twice`: PEFT rounds the delta before it adds it, as it does for embeddings.
    `magnitude`: reads m of DoRA, (rows,) float32; None for LoRA.
    """

    shape: Shape
    factors: Callable[[], Factors]
    transposed: bool = False
    embedding: bool = False
    rounds_twice: bool = False
    magnitude: Callable[[], torch.Tensor] | None = None
    moves_tied: bool = False

    @property
    def needs_weight(self) -> bool:
        """DoRA's delta does."""
        return self.magnitude is not None

    def delta(self, start: int, stop: int, weight: torch.Tensor | None) -> torch.Tensor:
        """Rows of the delta, float32."""
        if self.magnitude is None:
            return self._product(self.factors(), start, stop)
        assert weight is not None
        return self._scaled(start, stop, weight, self.magnitude()) - weight.float()

    def merged(self, start: int, stop: int, weight: torch.Tensor) -> torch.Tensor:
        """Rows of the weight with the delta added in float32, rounded."""
        if self.magnitude is not None:
            return self._scaled(start, stop, weight, self.magnitude()).to(weight.dtype)
        delta = self._product(self.factors(), start, stop)
        return (weight + (delta.to(weight.dtype) if self.rounds_twice else delta)).to(weight.dtype)

    def _product(self, found: Factors, start: int, stop: int) -> torch.Tensor:
        """Rows of scale * (B @ A), or of its transpose."""
        first = max(0, min(start, stop - MIN_PRODUCT_ROWS))
        last = min(self.shape[0], max(stop, first + MIN_PRODUCT_ROWS))
        # Copies, so that the address of a slice cannot choose another kernel.
        if self.transposed:
            product = (found.up @ found.down[:, first:last].clone()).T
        else:
            product = found.up[first:last].clone() @ found.down
        return product[start - first : stop - first].mul_(found.scale).contiguous()

    def _scaled(
        self, start: int, stop: int, weight: torch.Tensor, magnitude: torch.Tensor
    ) -> torch.Tensor:
        """Rows of m / |W + s B A| (W + s B A), float32."""
        direction = weight + self._product(self.factors(), start, stop)
        norm = torch.linalg.norm(direction, dim=1)
        return (magnitude[start:stop] / norm).view(-1, 1) * direction


@dataclass(frozen=True, kw_only=True)
class Decomposed(LowRank):
    """LoRA that starts from a part of its base model: pissa or olora, as saved.

    PEFT takes B0 A0 out of the weight when it loads the adapter. `trained` are A and B as saved,
    `initial` A0 and B0; `factors` are those of the delta, [B, -B0] and [A; A0].
    PiSSA: Meng et al. 2024, arXiv:2404.02948. OLoRA: Buyukakyuz 2024, arXiv:2406.01775.
    """

    trained: Callable[[], Factors]
    initial: Callable[[], Factors]

    def merged(self, start: int, stop: int, weight: torch.Tensor) -> torch.Tensor:
        """Rows of the weight without B0 A0, rounded, with B A added, rounded again."""
        left = weight - self._product(self.initial(), start, stop)
        trained = self._product(self.trained(), start, stop)
        return (left.to(weight.dtype) + trained).to(weight.dtype)


@dataclass(frozen=True)
class Replaced:
    """A tensor that the adapter stores whole: modules_to_save, a trained bias, an embedding.

    `moves_tied`: it is put into the base model's own memory, as the weight beside factors is.
    """

    shape: Shape
    saved: Rows
    moves_tied: bool = False
    needs_weight = True

    def delta(self, start: int, stop: int, weight: torch.Tensor | None) -> torch.Tensor:
        """float32(saved) - float32(weight)."""
        assert weight is not None
        return self.saved(start, stop).float() - weight.float()

    def merged(self, start: int, stop: int, weight: torch.Tensor) -> torch.Tensor:
        """The saved rows in the weight's dtype."""
        return self.saved(start, stop).to(weight.dtype)


@dataclass(frozen=True)
class TrainedTokens:
    """Rows `indices` of an embedding, trained alone: saved is (len(indices), width)."""

    shape: Shape
    indices: tuple[int, ...]
    saved: Rows
    needs_weight = True
    moves_tied = True

    def delta(self, start: int, stop: int, weight: torch.Tensor | None) -> torch.Tensor:
        """Zero but in the named rows."""
        assert weight is not None
        return self._put(start, stop, weight.float()) - weight.float()

    def merged(self, start: int, stop: int, weight: torch.Tensor) -> torch.Tensor:
        """The weight with the named rows replaced."""
        return self._put(start, stop, weight)

    def _put(self, start: int, stop: int, weight: torch.Tensor) -> torch.Tensor:
        found = weight.clone()
        for at, index in enumerate(self.indices):
            if start <= index < stop:
                found[index - start] = self.saved(at, at + 1).to(weight.dtype)[0]
        return found


@dataclass(frozen=True)
class BiasShift:
    """A bias of lora_B itself (lora_bias), added to the layer's bias; `bias`: (1, size)."""

    shape: Shape
    bias: Rows
    scale: float
    needs_weight = False
    moves_tied = False

    def delta(self, start: int, stop: int, weight: torch.Tensor | None) -> torch.Tensor:
        """The bias times the scale, in float32."""
        del weight
        return self.bias(start, stop).float() * self.scale

    def merged(self, start: int, stop: int, weight: torch.Tensor) -> torch.Tensor:
        """Added in float32 and rounded once."""
        return (weight + self.delta(start, stop, None)).to(weight.dtype)
