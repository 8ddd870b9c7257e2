"""Chained trials: the parent's part, the child's part, and the angle between them.

Model: the chains table has, for the whole task vector p + c, the L2 of the parent's part p, of the
child's c and of both; the angle is arccos of their cosine in degrees (at 90 they are independent,
above it the child undoes a part of p), and cancellation = 1 - |p + c| / (|p| + |c|).
Invariant: every chained trial of the chains table has a row.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from raylab.report.findings.finding import Finding, Sentence
from raylab.report.findings.statistics import ratio_of
from raylab.report.findings.trained_models import Model, labels_of, models_of
from raylab.report.study_tables import Row, Rows, Tables, finite

TURNS_BACK = 100
"""Degrees above which a child counts as turning back."""


def find(tables: Tables) -> Finding:
    """The parts of every chained trial."""
    models = {model.name: model for model in models_of(tables)}
    labels = labels_of(list(models.values()))
    chained = tables.rows("chains", level="all")
    rows = [_row(row, models.get(row["model"]), labels) for row in chained]
    sentences = [*_sentences(rows)] or [Sentence("chains-nothing")]
    return Finding.of("chains", sentences, {"chains": rows})


def angle_of(cosine: float | None) -> float | None:
    """The angle in degrees of a cosine; None where that is not known."""
    if cosine is None or not math.isfinite(cosine):
        return None
    return math.degrees(math.acos(max(-1.0, min(1.0, cosine))))


def _row(row: Row, model: Model | None, labels: Mapping[str, str]) -> dict[str, Any]:
    parts = {key: finite(row[key]) for key in ("l2_parent", "l2_child", "l2", "cosine")}
    return {
        "model": model.base_model if model else None,
        "name": row["model"],
        "label": labels[model.recipe] if model else row["model"],
        "seed": model.seed.level if model else None,
        **parts,
        "angle": angle_of(parts["cosine"]),
        "cancellation": finite(row["cancellation"]),
        "child_share": ratio_of(parts["l2_child"], parts["l2_parent"]),
    }


def _sentences(rows: Rows) -> Iterator[Sentence]:
    shares, angles, cancellations = (
        [row[column] for row in rows if row[column] is not None]
        for column in ("child_share", "angle", "cancellation")
    )
    if shares:
        values = {"count": len(shares), "low": min(shares), "high": max(shares)}
        yield Sentence("chains-added", values)
    if angles:
        back = sum(angle > TURNS_BACK for angle in angles)
        values = {"low": min(angles), "high": max(angles), "back": back, "count": len(angles),
                  "lost": max(cancellations, default=0.0)}  # fmt: skip
        yield Sentence("chains-angle", values)
