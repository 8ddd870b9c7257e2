"""What LoRA factors say of the deltas that they stand for; no delta is ever formed.

Model: an adapted module's delta is scale * up @ down, with up = B (rows, r), down = A (r, columns)
and the scale that PEFT applies, rank-stabilised or not. An inner product of two of them comes out
of small Gram matrices, <U V, X Y> = sum((U^T X) * (V Y^T)). The difference of two is itself of
rank 2 r, (U - X) V + X (V - Y), so that it is taken where the factors differ, and not as the
small difference of large inner products. Modules of one shape and rank are measured together.
A sketch of a delta is SKETCH numbers u_k^T delta v_k / sqrt(SKETCH), u_k and v_k signs that
depend on the module's name and shape alone: the inner product of two sketches estimates that of
the deltas without bias (Alon et al. 1999, "Tracking join and self-join sizes in limited storage",
with signs drawn for each pair, not four-wise independent ones).

Exact: sums are float64 over factors that are float32. A norm of a difference is good to about
1e-13 of |(U - X) V| + |X (V - Y)|, which is that of itself unless both parts cancel.
Known by measurement (tests/train/test_deltas.py): an estimated cosine of two sketches of one
layer has a standard deviation of up to 0.3; of a whole model, the sketches of its layers side by
side, of 0.3 / sqrt(layers).

Invariant: takes no random number of any generator; a sketch has the same signs in every process,
under every version of every library. Not measured: magnitudes of DoRA, biases, modules saved
whole, adapters of another name (which are frozen: a parent's).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from raylab.plan.shards import natural_order

SKETCH = 16
"""Numbers of a sketch."""
_ADAPTER = "default"
_MOST_ENTRIES = 1 << 21
"""Of the factors of a group: its temporaries in float64 are a few dozen MB at most."""


@dataclass(frozen=True)
class Factors:
    """n deltas up @ down of one shape. up: (n, rows, r), down: (n, r, columns), one dtype."""

    up: torch.Tensor
    down: torch.Tensor

    def to(self, place: torch.device | str, dtype: torch.dtype) -> Factors:
        """The same on another device, in another dtype."""
        return Factors(self.up.to(place, dtype), self.down.to(place, dtype))


def difference(now: Factors, before: Factors) -> Factors:
    """now - before, as one product of rank 2 r."""
    up = torch.cat([now.up - before.up, before.up], dim=2)
    down = torch.cat([now.down, now.down - before.down], dim=1)
    return Factors(up, down)


def products(one: Factors, other: Factors) -> torch.Tensor:
    """(n,): the Frobenius inner products of the deltas, each with its counterpart."""
    return ((one.up.mT @ other.up) * (one.down @ other.down.mT)).sum((1, 2))


@dataclass(frozen=True)
class Group:
    """Modules of one shape and rank, in the order of `names`, with scales (n,) in float64.

    left (n, SKETCH, rows) and right (n, SKETCH, columns), int8, are the signs of their sketches.
    """

    names: tuple[str, ...]
    modules: tuple[Any, ...]
    scales: torch.Tensor
    left: torch.Tensor
    right: torch.Tensor

    def factors(self) -> Factors:
        """A copy of the factors as they are now, in float32, where the modules are."""
        found = [factors_of(module) for module in self.modules]
        up = torch.stack([up.detach().float() for up, _ in found])
        return Factors(up, torch.stack([down.detach().float() for _, down in found]))

    def measure(self, now: Factors, before: Sequence[Factors]) -> torch.Tensor:
        """(n, 3 + SKETCH), float64: |delta|^2, |step|^2, <step, the step before>, the sketch.

        `before` are the last two records, the latest first; what there are too few of is NaN.
        """
        device = now.up.device
        exact = [found.to(device, torch.float64) for found in (now, *before)]
        steps = [difference(*pair) for pair in zip(exact, exact[1:], strict=False)]
        pairs = [(exact[0], exact[0]), *((steps[0], step) for step in steps)]
        found = torch.full((len(self.names), 3), torch.nan, dtype=torch.float64, device=device)
        for column, pair in enumerate(pairs):
            found[:, column] = products(*pair)
        scales = self.scales.to(device)[:, None]
        return torch.cat([found * scales**2, self._sketch(exact[0]) * scales], dim=1)

    def _sketch(self, exact: Factors) -> torch.Tensor:
        left, right = (
            signs.to(exact.up.device, torch.float64) for signs in (self.left, self.right)
        )
        return ((left @ exact.up) * (right @ exact.down.mT)).sum(2) / SKETCH**0.5


def factors_of(module: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """(up, down) of an adapted module; of an embedding the delta is that of its transpose."""
    if _ADAPTER in module.lora_A:
        return module.lora_B[_ADAPTER].weight, module.lora_A[_ADAPTER].weight
    return module.lora_embedding_B[_ADAPTER], module.lora_embedding_A[_ADAPTER]


def groups_of(model: Any) -> tuple[Group, ...]:
    """The modules that the trained adapter of a PEFT model changes, in groups of one shape."""
    found = dict(_adapted(model.get_base_model()))
    kinds: dict[tuple[int, int, int], list[str]] = {}
    for name in sorted(found, key=natural_order):
        up, down = factors_of(found[name])
        kinds.setdefault((up.shape[0], *down.shape), []).append(name)
    return tuple(
        _group(names[first : first + most], found)
        for (rows, rank, columns), names in kinds.items()
        for most in [max(1, _MOST_ENTRIES // (rank * (rows + columns)))]
        for first in range(0, len(names), most)
    )


def _adapted(model: Any) -> Iterator[tuple[str, Any]]:
    for name, module in model.named_modules():
        held = (getattr(module, kind, ()) for kind in ("lora_A", "lora_embedding_A"))
        if any(_ADAPTER in adapters for adapters in held):
            yield name, module


def _group(names: Sequence[str], found: Mapping[str, Any]) -> Group:
    modules = tuple(found[name] for name in names)
    scales = torch.tensor([module.scaling[_ADAPTER] for module in modules], dtype=torch.float64)
    up, down = factors_of(modules[0])
    signs = [signs_of(name, up.shape[0], down.shape[1]) for name in names]
    left, right = (torch.stack(side) for side in zip(*signs, strict=True))
    return Group(tuple(names), modules, scales, left, right)


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
