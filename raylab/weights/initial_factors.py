"""The part of a weight that PiSSA and OLoRA take out of it, computed again.

Model: PEFT computes A0 and B0 from the base model's weight when it makes the adapter, and again
when it loads it, and leaves W - s B0 A0 in the base model.
Invariant: the product B0 A0 is PEFT's to float32 rounding. Signs and order inside a group of equal
singular values are free, and the product does not depend on them.
"""

from __future__ import annotations

import torch

from raylab.weights.adapter_parts import Factors


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
