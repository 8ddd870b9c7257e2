"""The path of deltas that are formed whole, in numpy's extended precision."""

from __future__ import annotations

import re
from itertools import pairwise

import numpy as np


def deltas(model):
    """{module: delta} of the adapter "default" of a PEFT model, by the names of its parameters."""
    parts = {}
    for name, parameter in model.named_parameters():
        found = re.fullmatch(r"base_model\.model\.(.+)\.lora_([AB])\.default\.weight", name)
        if found:
            value = parameter.detach().cpu().numpy().astype(np.longdouble)
            parts.setdefault(found[1], {})[found[2]] = value
    modules = dict(model.base_model.model.named_modules())
    return {
        name: np.longdouble(modules[name].scaling["default"]) * (part["B"] @ part["A"])
        for name, part in parts.items()
    }


def layer(name):
    found = re.match(r".*?\.\d+(?=\.)", name)
    return found[0] if found else name


def inner(one, other, key):
    """The inner product over the modules of one layer."""
    return sum((one[name] * other[name]).sum() for name in one if layer(name) == key)


def minus(one, other):
    return {name: one[name] - other[name] for name in one}


def path(points):
    """Rows (step, layer, norm, step_norm, turn) out of {step: {module: delta}}."""
    steps, rows = list(points), []
    moves = [minus(points[b], points[a]) for a, b in pairwise(steps)]
    for place, step in enumerate(steps):
        for key in dict.fromkeys(map(layer, points[step])):
            norm = inner(points[step], points[step], key) ** 0.5
            length = turn = None
            if place >= 1:
                length = inner(moves[place - 1], moves[place - 1], key) ** 0.5
            if place >= 2:
                before = inner(moves[place - 2], moves[place - 2], key) ** 0.5
                together = inner(moves[place - 1], moves[place - 2], key)
                turn = together / (length * before) if length * before > 0 else None
            rows.append((step, key, norm, length, turn))
    return rows
