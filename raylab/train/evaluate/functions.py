"""How two models differ in what they predict: divergences of next-token distributions.

Model: a model gives each token of an answer a distribution p over the vocabulary, the softmax of
its logits in float64. For two models a and b, at one token:
  KL(a || b) = sum p_a (log p_a - log p_b), in nats (Kullback and Leibler 1951);
  JS = (KL(a || m) + KL(b || m)) / 2 with m = (p_a + p_b) / 2, in nats, at most log 2 (Lin 1991);
  agreement: whether the likeliest token is the same; L2 = sqrt(sum (p_a - p_b)^2).
Invariant: equal logits give exactly 0, 0, 0, agreement and 0. With a and b changed, JS, agreement
and L2 have the same bits, and the two KL change places. A value depends on the two models and
the token alone, never on the other models beside them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from raylab.plan.functions import MEASURES

_ENTRIES = {"cpu": 1 << 14, "cuda": 1 << 20}
"""Of the distributions of one model that are compared at once: a CPU's cache holds what a pair of
them takes, and a GPU is kept busy. With 20 models and their probabilities that is 5 MB and
340 MB."""

_INFINITE = 1e290
"""No finite logits, not those of float32 either, give a divergence beyond."""

Pair = tuple[int, int]
"""Two models by their places."""


@dataclass(frozen=True)
class TokenDivergences:
    """Every answer token of one sequence.

    values: (pairs, MEASURES, tokens), float64. chosen: (models, tokens), the probability of the
    answer's own token. top: (models, tokens), the likeliest token.
    """

    values: np.ndarray
    chosen: np.ndarray
    top: np.ndarray

    def sums(self) -> np.ndarray:
        """(pairs, MEASURES): sums over tokens, each rounded once."""
        rows = [[math.fsum(of_one) for of_one in of_pair] for of_pair in self.values.tolist()]
        return np.array(rows, dtype=np.float64).reshape(len(self.values), len(MEASURES))


def log_probabilities(logits: torch.Tensor) -> torch.Tensor:
    """log p of (tokens, vocabulary) logits, in float64; -inf becomes the least finite number."""
    found = logits.double().log_softmax(-1)
    # So that 0 * (log 0 - log 0) is 0. NaN stays.
    return found.clamp_(min=torch.finfo(torch.float64).min)


def compare_tokens(
    logits: Sequence[torch.Tensor], tokens: torch.Tensor, pairs: Sequence[Pair], device: str
) -> TokenDivergences:
    """All divergences of `pairs` at the answer's `tokens`.

    logits: of each model (tokens, vocabulary), of any dtype, on any device; all of one vocabulary.
    """
    length, vocabulary = logits[0].shape
    step = max(1, _ENTRIES[torch.device(device).type] // vocabulary)
    values = np.empty((len(pairs), len(MEASURES), length))
    chosen, top = np.empty((len(logits), length)), np.empty((len(logits), length), dtype=np.int64)
    for first in range(0, length, step):
        part = slice(first, first + step)
        of_part = [log_probabilities(one[part].to(device)) for one in logits]
        answer = tokens[part].to(device)[:, None]
        tops = [one[part].to(device).argmax(-1) for one in logits]
        for place, log_p in enumerate(of_part):
            chosen[place, part] = log_p.gather(1, answer)[:, 0].exp().cpu().numpy()
            top[place, part] = tops[place].cpu().numpy()
        p = [log_p.exp() for log_p in of_part]
        for place, (a, b) in enumerate(pairs):
            found = _divergences(of_part[a], of_part[b], p[a], p[b])
            agree = (tops[a] == tops[b]).double()
            values[place, :, part] = torch.stack([*found[:3], agree, found[3]]).cpu().numpy()
    return TokenDivergences(values, chosen, top)


def _divergences(
    log_a: torch.Tensor, log_b: torch.Tensor, p_a: torch.Tensor, p_b: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """KL(a || b), KL(b || a), JS and L2 of each token."""
    difference = log_a - log_b
    # Adding 0 makes 0 of -0. What the least finite number stands for is infinite.
    kl_ab = _or_infinite((p_a * difference).sum(-1) + 0.0)
    kl_ba = _or_infinite(-(p_b * difference).sum(-1) + 0.0)
    # With t = |log p_a - log p_b|, m over the larger of both is (1 + exp(-t)) / 2, which lies
    # between 1/2 and 1, so that nothing overflows and t = 0 gives 0.
    apart = difference.abs_()
    log_m = torch.log1p(torch.expm1(-apart).mul_(0.5))
    js = ((p_a + p_b) * log_m).add_(torch.minimum(p_a, p_b) * apart).sum(-1).mul_(-0.5) + 0.0
    l2 = (p_a - p_b).square_().sum(-1).sqrt_()
    return kl_ab, kl_ba, js, l2


def _or_infinite(values: torch.Tensor) -> torch.Tensor:
    return values.masked_fill_(values > _INFINITE, math.inf)
