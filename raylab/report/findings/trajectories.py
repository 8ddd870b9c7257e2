"""Trajectories: how straight a training went, which layer moved first, when seeds diverged.

Model: the paths table has, for each layer of a trial at its recorded steps, the norm of the delta
since the training began (of a chained trial: since its parent), the norm of the step since the
last record, and a sketch. Of the whole model squares add up over layers:

    length       = sum over records of sqrt(sum over layers of step_norm^2)
    displacement = sqrt(sum over layers of norm^2) at the last record
    first        = the layer that reaches half of its last norm soonest, between two records on a
                   straight line
    parted       = the first step, as a share of all, from which on two seeds' sketches, all layers
                   side by side, have a cosine below one half

A length takes the trajectory between two records as a straight line, so it is a lower bound. The
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

from raylab.report.findings.finding import Finding, Sentence
from raylab.report.findings.statistics import mean, ratio_of
from raylab.report.findings.trained_models import (
    Model,
    at_other_seeds,
    by_base_model,
    by_recipe,
    labels_of,
    models_of,
)
from raylab.report.study_tables import Row, Rows, Tables

HALF = 0.5

Trajectory = Mapping[int, Mapping[str, Row]]
"""By step and layer: a row of the paths table."""


def find(tables: Tables) -> Finding:
    """Lengths, first layers and divergence of all trials with recorded steps."""
    trajectories: dict[str, dict[int, dict[str, Row]]] = {}
    for row in tables["paths"]:
        steps = trajectories.setdefault(row["name"], {})
        steps.setdefault(row["step"], {})[row["layer"]] = row
    models = [model for model in models_of(tables) if model.name in trajectories]
    frames: dict[str, list[dict[str, Any]]] = {"paths": [], "parting": [], "path_points": []}
    answer: list[Sentence] = []
    details: list[Sentence] = []
    for base, of_base in by_base_model(models).items():
        labels = labels_of(of_base)
        rows = [_row(model, labels[model.recipe], trajectories[model.name]) for model in of_base]
        divergences = []
        for recipe, seeds in by_recipe(of_base).items():
            pairs = at_other_seeds(list(itertools.combinations(seeds, 2)))
            found = [(trajectories[a.name], trajectories[b.name]) for a, b in pairs]
            head = {"model": base, "recipe": recipe, "label": labels[recipe], "seeds": len(seeds)}
            divergences += [head | row for row in _divergence(found)]
            frames["path_points"] += _points(seeds[0], labels[recipe], trajectories[seeds[0].name])
        frames["paths"] += rows
        frames["parting"] += divergences
        seeds_said = [*_divergence_sentences(base, divergences)]
        answer += [*_length_sentences(base, rows), *seeds_said[:1]]
        details += [*_first_sentences(base, rows), *seeds_said[1:]]
    if not frames["paths"]:
        answer.append(Sentence("paths-nothing"))
    return Finding("paths", tuple(answer), tuple(details), frames=frames)


def _row(model: Model, label: str, trajectory: Trajectory) -> dict[str, Any]:
    steps = sorted(trajectory)
    length = math.fsum(_whole_norm(trajectory[step], "step_norm") for step in steps)
    displacement = _whole_norm(trajectory[steps[-1]], "norm")
    halfway = {layer: _halfway_step(trajectory, layer) for layer in trajectory[steps[-1]]}
    reached = {layer: step for layer, step in halfway.items() if step is not None}
    first = min(reached, key=lambda layer: reached[layer], default=None)
    return {
        "model": model.base_model,
        "name": model.name,
        "label": label,
        "seed": model.seed.level,
        "steps": steps[-1],
        "records": len(steps),
        "length": length,
        "displacement": displacement,
        "length_ratio": ratio_of(length, displacement),
        "first": first,
        "first_at": None if first is None else reached[first] / steps[-1],
    }


def _whole_norm(layers: Mapping[str, Row], column: str) -> float:
    """The norm over all layers of a column by layer; a step that is not defined counts as zero."""
    return math.sqrt(math.fsum((row[column] or 0.0) ** 2 for row in layers.values()))


def _halfway_step(trajectory: Trajectory, layer: str) -> float | None:
    """The step at which a layer's norm reaches half of its last, between two records as a line."""
    steps = [step for step in sorted(trajectory) if layer in trajectory[step]]
    norms = [(step, trajectory[step][layer]["norm"] or 0.0) for step in steps]
    half = HALF * norms[-1][1]
    for (before, low), (step, high) in itertools.pairwise(norms):
        if half > 0 and high >= half:
            return before + (step - before) * max(0.0, half - low) / (high - low or 1.0)
    return None


def _divergence(pairs: Sequence[tuple[Trajectory, Trajectory]]) -> Iterator[dict[str, Any]]:
    """When the seeds of a recipe diverge, as means over pairs; nothing where no pair is known."""
    found = [_pair_divergence(*pair) for pair in pairs]
    known = [pair for pair in found if pair is not None]
    if known:
        parted = [share for share, _ in known if share is not None]
        yield {
            "parted": mean(parted) if len(parted) == len(known) else None,
            "last_cosine": mean([cosine for _, cosine in known]),
        }


def _pair_divergence(one: Trajectory, other: Trajectory) -> tuple[float | None, float] | None:
    """(share of the steps from which on the cosine stays below one half, the last cosine)."""
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


def cosine_of_sketches(one: Mapping[str, Row], other: Mapping[str, Row]) -> float | None:
    """The cosine of two models' sketches at one step, over the layers that both have.

    None where there is none, or one model has not moved.
    """
    layers = [layer for layer in one if layer in other]
    if not layers:
        return None
    a, b = (np.concatenate([side[layer]["sketch"] for layer in layers]) for side in (one, other))
    lengths = float(np.linalg.norm(a) * np.linalg.norm(b))
    return float(a @ b) / lengths if lengths > 0 else None


def _points(model: Model, label: str, trajectory: Trajectory) -> Iterator[dict[str, Any]]:
    """The norm of each layer at each step, and its share of the last."""
    last = trajectory[max(trajectory)]
    for step in sorted(trajectory):
        for layer, row in trajectory[step].items():
            last_norm = last[layer]["norm"] if layer in last else None
            yield {
                "model": model.base_model,
                "name": model.name,
                "label": label,
                "seed": model.seed.level,
                "step": step,
                "layer": layer,
                "norm": row["norm"],
                "share": ratio_of(row["norm"], last_norm),
            }


def _length_sentences(base: str, rows: Rows) -> Iterator[Sentence]:
    ratios = [row["length_ratio"] for row in rows if row["length_ratio"] is not None]
    if ratios:
        values = {"model": base, "count": len(ratios), "low": min(ratios), "high": max(ratios)}
        yield Sentence("paths-straight", values)


def _first_sentences(base: str, rows: Rows) -> Iterator[Sentence]:
    firsts = [row["first"] for row in rows if row["first"] is not None]
    if firsts:
        layer = max(dict.fromkeys(firsts), key=firsts.count)
        values = {"model": base, "layer": layer, "count": firsts.count(layer), "total": len(firsts)}
        yield Sentence("paths-first", values)


def _divergence_sentences(base: str, divergences: Rows) -> Iterator[Sentence]:
    parted = [row["parted"] for row in divergences if row["parted"] is not None]
    if parted:
        values = {"model": base, "count": len(parted), "low": min(parted), "high": max(parted)}
        yield Sentence("paths-part", values)
    if len(parted) < len(divergences):
        values = {"model": base, "count": len(divergences) - len(parted)}
        yield Sentence("paths-together", values)
