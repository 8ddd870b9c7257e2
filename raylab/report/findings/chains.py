"""Chained trials: what the parent did, what the child added, at which angle.

Model: the chains table has, for the whole task vector p + c, the L2 of the parent's part p, of the
child's c and of both; the angle is arccos of their cosine in degrees (90: the child goes its own
way, above: it takes back), and cancellation = 1 - |p + c| / (|p| + |c|).
Invariant: every chained trial of the chains table has a row.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from raylab.report.findings.caveats import caveats_of
from raylab.report.findings.finding import Finding, Sentence, Tables, finite, over
from raylab.report.findings.trained_models import Model, labels_of, models_of


def chains(tables: Tables) -> Finding:
    """The parts of every chained trial."""
    models = {model.name: model for model in models_of(tables)}
    labels = labels_of(list(models.values()))
    rows = [
        _row(row, models.get(row["model"]), labels) for row in tables.rows("chains", level="all")
    ]
    said = tuple(_sentences(rows)) or (Sentence("chains.nothing"),)
    resting = [models[row["name"]] for row in rows if row["name"] in models]
    return Finding("chains", (), said, caveats_of(resting), {"chains": rows})


def angle_of(cosine: float | None) -> float | None:
    """The angle in degrees of a cosine."""
    if cosine is None or not math.isfinite(cosine):
        return None
    return math.degrees(math.acos(max(-1.0, min(1.0, cosine))))


def _row(row: Mapping[str, Any], model: Model | None, labels: Mapping[str, str]) -> dict[str, Any]:
    parts = {key: finite(row[key]) for key in ("l2_parent", "l2_child", "l2", "cosine")}
    parent, child = parts["l2_parent"], parts["l2_child"]
    return {
        "model": model.base_model if model else None,
        "name": row["model"],
        "label": labels[model.stem] if model else row["model"],
        "seed": model.seed if model else None,
        **parts,
        "angle": angle_of(parts["cosine"]),
        "cancellation": finite(row["cancellation"]),
        "child_share": over(child, parent),
    }


def _sentences(rows: Sequence[Mapping[str, Any]]) -> Iterator[Sentence]:
    shares = [row["child_share"] for row in rows if row["child_share"] is not None]
    angles = [row["angle"] for row in rows if row["angle"] is not None]
    lost = [row["cancellation"] for row in rows if row["cancellation"] is not None]
    if shares:
        values = {"count": len(shares), "low": min(shares), "high": max(shares)}
        yield Sentence("chains.added", values)
    if angles:
        back = sum(angle > 100 for angle in angles)
        values = {"low": min(angles), "high": max(angles), "back": back, "count": len(angles),
                  "lost": max(lost, default=0.0)}  # fmt: skip
        yield Sentence("chains.angle", values)
