"""Rows by token, written from the definition in docs/merging.md: a model is {token: row}."""

from __future__ import annotations

import numpy as np


def completed(tokens, models, base=None, asked=None):
    """Each of `models` with a row for every one of `tokens`; base: the base model's, or None.

    asked: {token: (row, whether it is forced)}.
    """
    found = [{} for _ in models]
    for token in tokens:
        row, forced = (asked or {}).get(token, (None, False))
        row = filler(token, models, base) if row is None else row
        for mine, model in zip(found, models, strict=True):
            mine[token] = row if forced or token not in model else model[token]
    return found


def filler(token, models, base):
    having = [model[token] for model in models if token in model]
    if len(having) > 1 and base is not None and token in base:
        return base[token]
    width = len(next(iter(models[0].values())))
    return np.mean(having, axis=0) if having else np.zeros(width)


def padding(model, tokens):
    """The row of no token."""
    return np.mean([model[token] for token in tokens], axis=0)
