"""Linear CKA: how alike two models' hidden states are, whatever their rotation and scale.

Model: of n tokens, X (n, d) holds the hidden states of a model at a layer, K = X X^T. Linear CKA
(Kornblith et al. 2019, arXiv:1905.00414) is HSIC(K, L) / sqrt(HSIC(K, K) HSIC(L, L)). HSIC is
estimated without bias (HSIC_1 of Song et al. 2012, JMLR 13, eq. 5): with K' = K and L' = L without
their diagonals,
  HSIC_1 = [tr(K' L') + 1'K'1 1'L'1 / ((n-1)(n-2)) - 2 1'K'L'1 / (n-2)] / (n (n-3)).
Centred with these corrections, K' is a matrix whose rows sum to 0, and HSIC_1 is an inner product
of two of them (Szekely and Rizzo 2014, eq. 3.1 and 3.4). Tokens are taken in blocks, and HSIC_1 is
averaged over blocks before the quotient (Nguyen et al. 2021, arXiv:2010.15327, eq. 3).
Invariant: everything is float64. A value depends on the two models' states alone. CKA of equal
states is exactly 1, and no CKA is beyond 1 but by rounding.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch

LEAST_TOKENS = 4
"""HSIC_1 needs as many; a block of fewer is left out."""


def centred_gram(states: torch.Tensor) -> torch.Tensor:
    """(n, n): K' of the states (n, d), centred so that HSIC_1 is an inner product; n >= 4."""
    x = states.double()
    n = len(x)
    gram = (x @ x.T).fill_diagonal_(0.0)
    rows = gram.sum(1)
    gram -= (rows / (n - 2))[:, None]
    gram -= (rows / (n - 2))[None, :]
    gram += rows.sum() / ((n - 1) * (n - 2))
    return gram.fill_diagonal_(0.0)


def hsic(one: torch.Tensor, other: torch.Tensor) -> float:
    """HSIC_1 of two centred Gram matrices."""
    n = len(one)
    return float((one * other).sum()) / (n * (n - 3))


def block_hsic(
    states: Sequence[torch.Tensor], pairs: Sequence[tuple[int, int]], device: str
) -> np.ndarray:
    """(layers, pairs, 3): HSIC_1 of a with b, of a with itself and of b with itself.

    states: of each model (layers, tokens, width), with as many layers each.
    """
    found = np.empty((len(states[0]), len(pairs), 3))
    for layer in range(len(found)):
        grams = [centred_gram(one[layer].to(device)) for one in states]
        own = [hsic(gram, gram) for gram in grams]
        for place, (a, b) in enumerate(pairs):
            found[layer, place] = hsic(grams[a], grams[b]), own[a], own[b]
    return found


def cka(blocks: Sequence[Sequence[float]]) -> float | None:
    """CKA out of (HSIC_1(K, L), HSIC_1(K, K), HSIC_1(L, L)) of every block; None where the states
    of a model do not vary, or are not finite."""
    both, one, other = (math.fsum(block[i] for block in blocks) for i in range(3))
    if not (one > 0 and other > 0):
        return None
    value = both / math.sqrt(one * other)
    return value if math.isfinite(value) else None
