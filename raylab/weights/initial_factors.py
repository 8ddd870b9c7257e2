"""The part of a weight that PiSSA and OLoRA take out of it, computed again.

Model: PEFT computes A0 and B0 from the base model's weight when it makes the adapter, and again
when it loads it, and leaves W - s B0 A0 in the base model.
Invariant: the product B0 A0 is PEFT's to float32 rounding. Signs and order inside a group of equal
singular values are free, and the product does not depend on them.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import torch

from raylab.errors import ModelError
from raylab.weights.adapter_config import AdapterConfig
from raylab.weights.adapter_parts import Decomposed, Factors
from raylab.weights.checkpoint import Weights
from raylab.weights.safetensors_reader import Shape


class InitialFactors:
    """A0 and B0 of the layers that an adapter changes; the last ones are kept."""

    def __init__(self, config: AdapterConfig, base: Weights | None, kept: int) -> None:
        """Nothing is computed yet."""
        self._config, self._base = config, base
        self._found = lru_cache(maxsize=kept)(self._compute)

    def factors(self, name: str, trained: Callable[[], Factors]) -> Factors:
        """A0 and B0 of the tensor `name`, of the rank and scale of those that were trained."""
        found = trained()
        return self._found(name, found.rank, found.scale)

    def _compute(self, name: str, rank: int, scale: float) -> Factors:
        stored = self._base.stored_name(name) if self._base else None
        if self._base is None or stored is None:
            raise ModelError(f"{name} is not in the base model", expected="all targets in it")
        weight = self._base.raw(stored, 0, self._base.shapes[stored][0]).float()
        if self._config.fan_in_fan_out:
            weight = weight.T
        assert self._config.decomposition is not None
        return initial_factors(weight, self._config.decomposition, rank, scale)


def initial_factors(weight: torch.Tensor, method: str, rank: int, scale: float) -> Factors:
    """A0 and B0 of `weight`, (outputs, inputs), float32; method: pissa or olora.

    pissa: the `rank` largest singular components over the scale, a square root on each side.
    olora: the first `rank` columns of Q and rows of R of its QR decomposition.
    """
    if method == "olora":
        q, r = torch.linalg.qr(weight)
        return Factors(r[:rank].contiguous(), q[:, :rank].contiguous(), scale)
    left, values, right = torch.linalg.svd(weight, full_matrices=False)
    roots = torch.diag(torch.sqrt(values[:rank] / scale))
    return Factors(roots @ right[:rank], left[:, :rank] @ roots, scale)


def decomposed(
    shape: Shape,
    transposed: bool,
    trained: Callable[[], Factors],
    initial: Callable[[], Factors],
) -> Decomposed:
    """The part of a layer, whose delta s (B A - B0 A0) has the factors [B, -B0] and [A; A0]."""

    def factors() -> Factors:
        own, start = trained(), initial()
        down, up = torch.cat([own.down, start.down]), torch.cat([own.up, -start.up], 1)
        return Factors(down, up, own.scale)

    return Decomposed(
        shape=shape, factors=factors, transposed=transposed, trained=trained, initial=initial
    )
