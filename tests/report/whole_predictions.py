"""What the models of `tests.report.whole` predict, and where their deltas point.

Model: a model's logits at a token are entries of its vector, so that divergences, likenesses and
losses are those of real distributions. Sides are those of the vector's own matrices.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping

import numpy as np

VOCABULARY, TOKENS, LAYERS = 16, 12, 4
_SHARPNESS = 300.0
_KEPT = 2
"""Directions of a side."""
_ROWS, _COLUMNS = 6, 8
Vectors = Mapping[str, np.ndarray]
Rows = Iterator[dict]


def log_p(vector: np.ndarray) -> np.ndarray:
    """Log-probabilities float64 (TOKENS, VOCABULARY)."""
    logits = vector.ravel()[: TOKENS * VOCABULARY].reshape(TOKENS, VOCABULARY) * _SHARPNESS
    return logits - np.log(np.exp(logits).sum(1, keepdims=True))


def divergence(p: np.ndarray, q: np.ndarray) -> np.ndarray:
    return (np.exp(p) * (p - q)).sum(1)


def functions(vectors: Vectors) -> Rows:
    for (a, x), (b, y) in itertools.combinations(vectors.items(), 2):
        p, q = log_p(x), log_p(y)
        middle = np.log((np.exp(p) + np.exp(q)) / 2)
        yield {
            "a": a, "b": b, "data": "D0", "answers": "held_out", "prompts": 3, "tokens": TOKENS,
            "kl_ab": divergence(p, q).mean(), "kl_ba": divergence(q, p).mean(),
            "js": (divergence(p, middle) + divergence(q, middle)).mean() / 2,
            "top1_agreement": (p.argmax(1) == q.argmax(1)).mean(),
            "l_next": np.linalg.norm(np.exp(p) - np.exp(q), axis=1).mean(),
        }  # fmt: skip


def cka(vectors: Vectors) -> Rows:
    for (a, x), (b, y) in itertools.combinations(vectors.items(), 2):
        for layer in range(LAYERS):
            width = (layer + 1) * VOCABULARY // LAYERS
            centred = [v[:, :width] - v[:, :width].mean(0) for v in (log_p(x), log_p(y))]
            k, m = (v @ v.T for v in centred)
            value = (k * m).sum() / np.sqrt((k * k).sum() * (m * m).sum())
            yield {"a": a, "b": b, "data": "D0", "layer": layer, "tokens": TOKENS, "cka": value}


def differing_tokens(vectors: Vectors, comparisons: list[tuple[str, str]]) -> Rows:
    for a, b in comparisons:
        p, q = log_p(vectors[a]), log_p(vectors[b])
        found = divergence(p, q)
        for place in np.argsort(-found)[:3]:
            token = int(q[place].argmax())
            yield {
                "comparison": f"{a}~{b}", "a": a, "b": b, "data": "D0", "answers": "held_out",
                "prompt": "煮物のこつを教えてください。", "position": int(place),
                "token": f"字{token}",
                "kl": found[place], "p_a": np.exp(p[place, token]), "p_b": np.exp(q[place, token]),
                "top_a": f"字{int(p[place].argmax())}", "top_b": f"字{token}",
            }  # fmt: skip


def subspaces(vectors: Vectors) -> Rows:
    for (a, x), (b, y) in itertools.combinations(vectors.items(), 2):
        sides: dict[str, list[float]] = {"output": [], "input": []}
        for one, other in zip(x, y, strict=True):
            (u, _, v), (w, _, z) = (np.linalg.svd(m.reshape(_ROWS, _COLUMNS)) for m in (one, other))
            sides["output"].append((u[:, :_KEPT].T @ w[:, :_KEPT]) ** 2)
            sides["input"].append((v[:_KEPT] @ z[:_KEPT].T) ** 2)
        for side, size in (("output", _ROWS), ("input", _COLUMNS)):
            overlap = np.mean([found.sum() / _KEPT for found in sides[side]])
            yield {
                "a": a, "b": b, "view": "delta", "level": "all", "key": "all", "side": side,
                "energy": 1.0, "k": _KEPT, "overlap": overlap, "chance": _KEPT / size,
                "angle_median": 60.0, "angle_first": 40.0, "tensors": len(x),
            }  # fmt: skip


def connectivity(base: str, vectors: Vectors, lines: list[tuple[str, str]]) -> Rows:
    for a, b in lines:
        times = np.linspace(0, 1, 5)
        points = [log_p((1 - t) * vectors[a] + t * vectors[b]) for t in times]
        losses = np.array([-point[:, 0].mean() for point in points])
        straight = (1 - times) * losses[0] + times * losses[-1]
        excess = losses - straight
        for t, loss, line, over in zip(times, losses, straight, excess, strict=True):
            yield {
                "model": base, "a": a, "b": b, "data": "D0", "t": t, "loss": loss,
                "straight": line, "excess": over, "barrier": max(0.0, excess.max()),
                "answers": 3, "tokens": TOKENS,
            }  # fmt: skip
