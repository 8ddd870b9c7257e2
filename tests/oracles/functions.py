"""Divergences and CKA by their definitions, in numpy and scipy, one token at a time."""

from __future__ import annotations

import numpy as np
import scipy.special
import scipy.stats


def softmax(logits):
    return scipy.special.softmax(np.asarray(logits, dtype=np.float64), axis=-1)


def token_divergences(logits_a, logits_b):
    """(kl_ab, kl_ba, js, agreement, l2) of every token, as columns."""
    rows = []
    for p, q in zip(softmax(logits_a), softmax(logits_b), strict=True):
        m = (p + q) / 2
        js = (scipy.stats.entropy(p, m) + scipy.stats.entropy(q, m)) / 2
        kl_ab, kl_ba = scipy.stats.entropy(p, q), scipy.stats.entropy(q, p)
        rows.append((kl_ab, kl_ba, js, p.argmax() == q.argmax(), np.linalg.norm(p - q)))
    return np.array(rows, dtype=np.float64).T


def unbiased_hsic(x, y):
    """HSIC_1 of Song et al. 2012, eq. 5, term by term."""
    n = len(x)
    k, m = (np.asarray(z, dtype=np.float64) @ np.asarray(z, dtype=np.float64).T for z in (x, y))
    np.fill_diagonal(k, 0)
    np.fill_diagonal(m, 0)
    one = np.ones(n)
    first = np.trace(k @ m)
    second = (one @ k @ one) * (one @ m @ one) / ((n - 1) * (n - 2))
    third = 2 / (n - 2) * (one @ k @ m @ one)
    return (first + second - third) / (n * (n - 3))


def cka_of_blocks(xs, ys):
    """Minibatch CKA of Nguyen et al. 2021, eq. 3: HSIC_1 averaged before the quotient."""
    both = np.mean([unbiased_hsic(x, y) for x, y in zip(xs, ys, strict=True)])
    own = [np.mean([unbiased_hsic(z, z) for z in zs]) for zs in (xs, ys)]
    return both / np.sqrt(own[0] * own[1])
