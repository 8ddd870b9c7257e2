"""Along the way: how straight a training went, what moved first, where seeds part.

Model: the paths table has, for each layer of a trial at its recorded steps, the norm of the delta
since the training began (of a chained trial: since its parent), the norm of the step since the
last record, and a sketch. Of the whole model squares add up over layers:

    length       = sum over records of sqrt(sum over layers of step_norm^2)
    displacement = sqrt(sum over layers of norm^2) at the last record
    first        = the layer that reaches half of its last norm soonest, between two records on a
                   straight line
    parted       = the first step, as a share of all, from which on two seeds' sketches, all layers
                   side by side, have a cosine below one half

A length counts what happened between two records as a straight line, so it is a lower bound. The
cosine of sketches is an estimate (`raylab.train.factor_norms`), with a standard deviation of about
0.25 / sqrt(layers).
Invariant: a trial without recorded steps has no row; seeds are compared at steps that both have.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from raylab.report.findings.caveats import caveats_of
from raylab.report.findings.finding import Finding, Sentence, Tables, mean, over
from raylab.report.findings.seed_tables import Row
from raylab.report.findings.trained_models import Model, by_base, labels_of, models_of, recipes_of

HALF = 0.5

Path = Mapping[int, Mapping[str, Row]]
"""By step and layer: a row of the paths table."""


def paths(tables: Tables) -> Finding:
    """Lengths, layers and partings of all trials with a path."""
    models = models_of(tables)
    found = _paths(tables)
    frames: dict[str, list[dict[str, Any]]] = {"paths": [], "parting": [], "path_points": []}
    said: list[Sentence] = []
    for base, mine in by_base([model for model in models if model.name in found]).items():
        labels = labels_of(mine)
        rows = [_row(model, labels, found[model.name]) for model in mine]
        partings = list(_partings(base, mine, labels, found))
        frames["paths"] += rows
        frames["parting"] += partings
        for members in recipes_of(mine).values():
            frames["path_points"] += _points(members[0], labels, found[members[0].name])
        said += _sentences(base, rows, partings)
    if not frames["paths"]:
        said.append(Sentence("paths.nothing"))
    resting = [model for model in models if model.name in found]
    return Finding("paths", (), tuple(said), caveats_of(resting), frames)


def _paths(tables: Tables) -> dict[str, dict[int, dict[str, Row]]]:
    found: dict[str, dict[int, dict[str, Row]]] = {}
    for row in tables["paths"]:
        found.setdefault(row["name"], {}).setdefault(row["step"], {})[row["layer"]] = row
    return found


def _whole(layers: Mapping[str, Row], column: str) -> float:
    """The norm over all layers of what `column` gives by layer; an undefined step is zero long."""
    return math.sqrt(math.fsum((row[column] or 0.0) ** 2 for row in layers.values()))


def _row(model: Model, labels: Mapping[str, str], path: Path) -> dict[str, Any]:
    steps = sorted(path)
    length = math.fsum(_whole(path[step], "step_norm") for step in steps)
    displacement = _whole(path[steps[-1]], "norm")
    first, at = _first(path)
    return {
        "model": model.base_model,
        "name": model.name,
        "label": labels[model.stem],
        "seed": model.seed,
        "steps": steps[-1],
        "records": len(steps),
        "length": length,
        "displacement": displacement,
        "length_ratio": over(length, displacement),
        "first": first,
        "first_at": at,
    }


def _first(path: Path) -> tuple[str | None, float | None]:
    """The layer that is first at half of its last norm, and at which share of the steps."""
    steps = sorted(path)
    reached = {layer: _half_way(path, steps, layer) for layer in path[steps[-1]]}
    known = {layer: step for layer, step in reached.items() if step is not None}
    if not known:
        return None, None
    layer = min(known, key=lambda name: known[name])
    return layer, known[layer] / steps[-1]


def _half_way(path: Path, steps: Sequence[int], layer: str) -> float | None:
    """The step at which a layer's norm reaches half of its last, between two records as a line."""
    found = [(step, path[step][layer]["norm"] or 0.0) for step in steps if layer in path[step]]
    bound = HALF * found[-1][1]
    for (before, low), (step, high) in itertools.pairwise(found):
        if bound > 0 and high >= bound:
            return before + (step - before) * max(0.0, bound - low) / (high - low or 1.0)
    return None


def cosine_of_sketches(one: Mapping[str, Row], other: Mapping[str, Row]) -> float | None:
    """The cosine of two models' sketches at one step; None where one has not moved."""
    layers = [layer for layer in one if layer in other]
    a, b = (np.concatenate([side[layer]["sketch"] for layer in layers]) for side in (one, other))
    lengths = float(np.linalg.norm(a) * np.linalg.norm(b))
    return float(a @ b) / lengths if lengths > 0 else None


def _partings(
    base: str,
    models: Sequence[Model],
    labels: Mapping[str, str],
    found: Mapping[str, Path],
) -> Iterator[dict[str, Any]]:
    for stem, members in recipes_of(models).items():
        pairs = [
            _parted(found[a.name], found[b.name]) for a, b in itertools.combinations(members, 2)
        ]
        known = [pair for pair in pairs if pair is not None]
        if not known:
            continue
        parted = [share for share, _ in known if share is not None]
        yield {
            "model": base,
            "recipe": stem,
            "label": labels[stem],
            "seeds": len(members),
            "parted": mean(parted) if len(parted) == len(known) else None,
            "last_cosine": mean([cosine for _, cosine in known]),
        }


def _parted(one: Path, other: Path) -> tuple[float | None, float] | None:
    """(share of the steps from which on two paths are apart, their last cosine)."""
    steps = sorted(set(one) & set(other))
    cosines = [(step, cosine_of_sketches(one[step], other[step])) for step in steps]
    known = [(step, cosine) for step, cosine in cosines if cosine is not None]
    if not known:
        return None
    parted = None
    for step, cosine in reversed(known):
        if cosine >= HALF:
            break
        parted = step / steps[-1]
    return parted, known[-1][1]


def _points(model: Model, labels: Mapping[str, str], path: Path) -> Iterator[dict[str, Any]]:
    last = path[max(path)]
    for step in sorted(path):
        for layer, row in path[step].items():
            whole = last[layer]["norm"] if layer in last else None
            yield {
                "model": model.base_model,
                "name": model.name,
                "label": labels[model.stem],
                "seed": model.seed,
                "step": step,
                "layer": layer,
                "norm": row["norm"],
                "share": over(row["norm"], whole),
            }


def _sentences(
    base: str, rows: Sequence[Mapping[str, Any]], partings: Sequence[Mapping[str, Any]]
) -> Iterator[Sentence]:
    ratios = [row["length_ratio"] for row in rows if row["length_ratio"] is not None]
    if ratios:
        values = {"model": base, "count": len(ratios), "low": min(ratios), "high": max(ratios)}
        yield Sentence("paths.straight", values)
    firsts = [row["first"] for row in rows if row["first"] is not None]
    if firsts:
        layer = max(dict.fromkeys(firsts), key=firsts.count)
        values = {"model": base, "layer": layer, "count": firsts.count(layer), "total": len(firsts)}
        yield Sentence("paths.first", values)
    parted = [row["parted"] for row in partings if row["parted"] is not None]
    if parted:
        values = {"model": base, "count": len(parted), "low": min(parted), "high": max(parted)}
        yield Sentence("paths.part", values)
    if len(parted) < len(partings):
        values = {"model": base, "count": len(partings) - len(parted)}
        yield Sentence("paths.together", values)
