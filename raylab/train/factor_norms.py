"""Norms and sketches of deltas, computed from their LoRA factors; no delta is ever formed.

Model: an adapted module's delta is scale * B A, with B (rows, r), A (r, columns) and the scale
that PEFT applies, rank-stabilised or not. Inner products of deltas come out of small Gram
matrices, <B A, D C> = sum((B^T D) * (A C^T)). A step from D C to B A is itself a product of rank
2 r, (B - D) A + D (A - C). So the factors are subtracted, instead of two large and nearly equal
inner products. Modules of one shape and rank are measured together.
A sketch of a delta is SKETCH numbers u_k^T delta v_k / sqrt(SKETCH), where u_k and v_k are signs
that depend on the module's name and shape alone. The sketch of a layer is the sum over its
modules. The inner product of two sketches is an unbiased estimate of that of the deltas, as in
Alon et al. 1999, "Tracking join and self-join sizes in limited storage" (PODS).

Exact: sums are float64 over factors in float32. A norm has a relative error of about 1e-13. The
error of a step norm is relative to |(B - D) A| + |D (A - C)|, which exceeds the step only where
the two cancel.
Estimated: the cosine of two sketches of one layer has a standard deviation of about 0.25 where
the deltas are orthogonal, less where they are alike, and 0 where they are equal. The sketches of
L layers side by side are a sketch of the model, with 0.25 / sqrt(L).

Invariant: no generator gives a random number; a module has the same signs in every process, under
every version of every library. Not measured: magnitudes of DoRA, convolutions, biases, modules
saved whole, and adapters with another name than that of the trained one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import torch

from raylab.weights.names import natural_order

SKETCH = 16
"""Numbers of a sketch."""
_ADAPTER = "default"
_MOST_ENTRIES = 1 << 17
"""Of the factors of a group of several modules: temporaries in a core's cache halve the time."""


@dataclass(frozen=True)
class Factors:
    """n deltas left^T right of one shape. left: (n, r, rows), right: (n, r, columns), one dtype."""

    left: torch.Tensor
    right: torch.Tensor

    def to(self, place: torch.device | str, dtype: torch.dtype) -> Factors:
        """The same on another device, in another dtype."""
        return Factors(self.left.to(place, dtype), self.right.to(place, dtype))


def steps_between(records: Sequence[Factors]) -> Factors:
    """Each record minus the one after it in `records`: products of rank 2 r, stacked."""
    pairs = list(pairwise(records))
    left = [part for now, before in pairs for part in (now.left - before.left, before.left)]
    right = [part for now, before in pairs for part in (now.right, now.right - before.right)]
    return Factors(torch.cat(left, dim=1), torch.cat(right, dim=1))


def products(one: Factors, others: Factors) -> torch.Tensor:
    """(n, m): the Frobenius inner products of n deltas with m each, which are stacked."""
    terms = (one.left @ others.left.mT) * (one.right @ others.right.mT)
    return terms.unflatten(2, (-1, one.left.shape[1])).sum((1, 3))


@dataclass(frozen=True)
class Group:
    """Modules of one shape and rank, in the order of `names`, with scales (n, 1) in float64.

    weights: B and A of each, the parameters themselves. signs: those of the sketches, int8, with
    SKETCH in place of r.
    """

    names: tuple[str, ...]
    weights: tuple[tuple[torch.Tensor, torch.Tensor], ...]
    scales: torch.Tensor
    signs: Factors

    def factors(self) -> Factors:
        """A copy of the factors as they are now, in float32, where the modules are."""
        left = torch.stack([up.detach().mT.float() for up, _ in self.weights])
        return Factors(left, torch.stack([down.detach().float() for _, down in self.weights]))

    def measure(self, now: Factors, before: Sequence[Factors]) -> torch.Tensor:
        """(n, 3 + SKETCH), float64: |delta|^2, |step|^2, <step, the step before>, the sketch.

        `before` holds the last two records, the latest first; a value that lacks one is NaN.
        """
        device, rank = now.left.device, now.left.shape[1]
        records = [found.to(device, torch.float64) for found in (now, *before)]
        squares = [products(records[0], records[0])]
        if before:
            steps = steps_between(records)
            last = Factors(steps.left[:, : 2 * rank], steps.right[:, : 2 * rank])
            squares.append(products(last, steps))
        missing = now.left.new_full((len(self.names), 2 - len(before)), torch.nan)
        scales = self.scales.to(device)
        found = torch.cat([*squares, missing], dim=1) * scales**2
        return torch.cat([found, self._sketch(records[0]) * scales], dim=1)

    def _sketch(self, exact: Factors) -> torch.Tensor:
        signs = self.signs.to(exact.left.device, torch.float64)
        halves = (signs.left @ exact.left.mT) * (signs.right @ exact.right.mT)
        return halves.sum(2) / SKETCH**0.5


def groups_of(model: Any) -> tuple[Group, ...]:
    """The modules that the trained adapter of a PEFT model changes, in groups of one shape."""
    found = dict(_adapted(model.get_base_model()))
    kinds: dict[tuple[int, int, int], list[str]] = {}
    for name in sorted(found, key=natural_order):
        up, down = found[name].weights
        kinds.setdefault((up.shape[0], *down.shape), []).append(name)
    return tuple(
        _group(names[first : first + most], found)
        for (rows, rank, columns), names in kinds.items()
        for most in [max(1, _MOST_ENTRIES // (rank * (rows + columns)))]
        for first in range(0, len(names), most)
    )


class _Adapted(NamedTuple):
    """B (rows, r) and A (r, columns), the parameters themselves or views of them; their scale."""

    weights: tuple[torch.Tensor, torch.Tensor]
    scale: float


def _adapted(model: Any) -> Iterator[tuple[str, _Adapted]]:
    for name, module in model.named_modules():
        held = (getattr(module, kind, ()) for kind in ("lora_A", "lora_embedding_A"))
        if not any(_ADAPTER in adapters for adapters in held):
            continue
        up, down = weights_of(module)
        if up.dim() != 2:
            continue
        scale, experts = module.scaling[_ADAPTER], getattr(module, "num_experts", 1)
        if experts > 1:
            stem = f"{name.replace('.base_layer', '')}.{module.parameter_name}"
            for at in range(experts):
                yield f"{stem}.{at}", _Adapted(_of_expert(up, down, at, experts), scale)
        else:
            yield name, _Adapted((up, down), scale)


def _of_expert(
    up: torch.Tensor, down: torch.Tensor, at: int, experts: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Views of one expert's B and A; PEFT keeps A expert by expert, and B rank by rank."""
    rank = len(down) // experts
    return up.detach()[:, at::experts], down.detach()[at * rank : (at + 1) * rank]


def weights_of(module: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """B (rows, r) and A (r, columns) of an adapted module; an embedding's delta is transposed."""
    if _ADAPTER in module.lora_A:
        return module.lora_B[_ADAPTER].weight, module.lora_A[_ADAPTER].weight
    return module.lora_embedding_B[_ADAPTER], module.lora_embedding_A[_ADAPTER]


def _group(names: Sequence[str], found: Mapping[str, _Adapted]) -> Group:
    weights = tuple(found[name].weights for name in names)
    scales = [[found[name].scale] for name in names]
    up, down = weights[0]
    signs = [signs_of(name, up.shape[0], down.shape[1]) for name in names]
    left, right = (torch.stack(side) for side in zip(*signs, strict=True))
    exact = torch.tensor(scales, dtype=torch.float64)
    return Group(tuple(names), weights, exact, Factors(left, right))


def signs_of(name: str, rows: int, columns: int) -> tuple[torch.Tensor, torch.Tensor]:
    """(SKETCH, rows) and (SKETCH, columns) of -1 and 1, int8: the bits of a hash.

    No generator: a library's may give other numbers in its next version.
    """
    count = SKETCH * (rows + columns)
    seed = f"raylab sketch 1\n{name}\n{rows} {columns}".encode()
    digest = hashlib.shake_256(seed).digest(-(-count // 8))
    bits = np.unpackbits(np.frombuffer(digest, dtype=np.uint8), count=count)
    signs = torch.from_numpy(bits.astype(np.int8) * 2 - 1)
    left, right = signs.split([SKETCH * rows, SKETCH * columns])
    return left.reshape(SKETCH, rows), right.reshape(SKETCH, columns)
