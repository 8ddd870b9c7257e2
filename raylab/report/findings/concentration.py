"""How concentrated a difference is: the share of its norms in the largest entries.

Model: the curve table gives, for a density d, the share of L1 and of L2 that the largest d of all
entries hold. By linear interpolation of the share over log d it gives the density that holds half
of a norm, and the share of the largest 1 % and 10 %. For independent normal entries, with z such
that 2 (1 - Phi(z)) = d,

    share of L1 = exp(-z^2 / 2)          share of L2 = sqrt(d + 2 z phi(z)),

so that half of L1 is in the largest 23.9 % and half of L2 in the largest 4.27 %. Effective rank is
exp of the entropy of the singular values' shares (Roy and Vetterli 2007), the mean over tensors.
Invariant: a share that was not measured is None; a density between two points has a share between
theirs.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from raylab.report.findings.finding import Finding, Sentence
from raylab.report.findings.statistics import mean
from raylab.report.findings.trained_models import Model, labels_of, models_of
from raylab.report.study_tables import VIEW, Row, Rows, Tables, finite, grouped
from raylab.store.tables import rows_of

NORMAL_HALF_L2 = 0.042672
"""The density that holds half of the L2 norm of normal entries."""
POINTS = 64
_OF_CURVE = ["comparison", "density", "l1_share", "l2_share"]
_AT_DENSITY = (
    "density", "num_keep", "threshold", "at_or_above", "l1", "l2", "l1_share", "l2_share",
)  # fmt: skip
_NO_RANK = {"effective_rank": None, "rank": None}


def find(tables: Tables) -> Finding:
    """Curves of task vectors and data pairs, and the numbers that they give."""
    models = models_of(tables)
    subjects, ranks = _subjects(tables, models), _ranks(tables)
    # A curve has hundreds of points: only the columns that are read become Python objects.
    points_of = tables.arrow("curve", view=VIEW).select(_OF_CURVE)
    measured = (row for row in rows_of(points_of) if finite(row["l2_share"]) is not None)
    curves = grouped(measured, lambda row: row["comparison"])
    rows, points = [], []
    for comparison, head in subjects.items():
        curve = sorted(curves.get(comparison, ()), key=lambda row: row["density"])
        if not curve:
            continue
        # Spectra are those of task vectors; a difference of two has none.
        rank = ranks.get(head["a"]) if head["what"] == "task vector" else None
        rows.append({**head, **_shares_on(curve), **(rank or _NO_RANK)})
        places = np.unique(np.linspace(0, len(curve) - 1, POINTS).round().astype(int))
        points += [
            {**head, **{key: curve[place][key] for key in _OF_CURVE[1:]}} for place in places
        ]
    densities = [
        {**subjects[row["comparison"]], **{key: row[key] for key in _AT_DENSITY}}
        for row in tables.rows("densities", view=VIEW)
        if row["comparison"] in subjects
    ]
    halves, ranks_said = [*_half_sentences(rows)], [*_rank_sentences(rows)]
    answer = [*halves[:1], *ranks_said] or [Sentence("concentration-nothing", {}, "unknown")]
    frames = {"concentration": rows, "curves": points, "densities_of": densities}
    return Finding("concentration", tuple(answer), tuple(halves[1:]), frames=frames)


def _subjects(tables: Tables, models: Sequence[Model]) -> dict[str, dict[str, Any]]:
    """By comparison: the columns that identify it, as a task vector or a difference of two."""
    by_name, labels = {model.name: model for model in models}, labels_of(models)
    subjects = {}
    for row in tables.norms():
        a, b = by_name.get(row["a"]), by_name.get(row["b"])
        if a is None or (b is None and row["b"] != a.base_model):
            continue
        label = labels[a.recipe] if b is None else f"{labels[a.recipe]} vs {labels[b.recipe]}"
        subjects[row["comparison"]] = {
            "model": a.base_model,
            "comparison": row["comparison"],
            "what": "task vector" if b is None else "difference",
            "a": a.name,
            "label": label,
            "seed": a.seed.level if b is None or a.seed == b.seed else None,
        }
    return subjects


def _ranks(tables: Tables) -> dict[str, dict[str, Any]]:
    """By model: the mean effective rank of its tensors, and the rank of its adapter."""
    known = (row for row in tables["spectra"] if finite(row["effective_rank"]) is not None)
    return {
        name: {
            "effective_rank": mean([row["effective_rank"] for row in rows]),
            "rank": max(row["rank"] for row in rows),
        }
        for name, rows in grouped(known, lambda row: row["model"]).items()
    }


def _shares_on(curve: Rows) -> dict[str, Any]:
    """The columns that are read off a curve."""
    return {
        "half_l1": density_of_half(curve, "l1_share"),
        "half_l2": density_of_half(curve, "l2_share"),
        "l1_in_1": share_at(curve, "l1_share", 0.01),
        "l2_in_1": share_at(curve, "l2_share", 0.01),
        "l1_in_10": share_at(curve, "l1_share", 0.1),
        "l2_in_10": share_at(curve, "l2_share", 0.1),
    }


def density_of_half(curve: Rows, column: str) -> float | None:
    """The density at which `column` reaches one half; None where the curve does not."""
    log_densities, shares = _points_of(curve, column)
    if shares is None or shares[0] > 0.5 or shares[-1] < 0.5:
        return None
    return float(np.exp(np.interp(0.5, shares, log_densities)))


def share_at(curve: Rows, column: str, density: float) -> float | None:
    """The share of the largest `density` of entries; None outside of the curve."""
    log_densities, shares = _points_of(curve, column)
    log_density = float(np.log(density))
    if shares is None or not log_densities[0] <= log_density <= log_densities[-1]:
        return None
    return float(np.interp(log_density, log_densities, shares))


def _points_of(curve: Rows, column: str) -> tuple[np.ndarray, np.ndarray | None]:
    """Log densities and shares float64 (points,); no shares where a point has none."""
    log_densities = np.log([row["density"] for row in curve])
    shares = [finite(row[column]) for row in curve]
    return log_densities, None if None in shares else np.asarray(shares, np.float64)


def _half_sentences(rows: Sequence[Row]) -> Iterator[Sentence]:
    """The densities that hold half of L2: of task vectors, then of differences."""
    for what in ("task vector", "difference"):
        half = [r["half_l2"] for r in rows if r["what"] == what and r["half_l2"] is not None]
        if half:
            values = {"what": what, "count": len(half), "low": min(half), "high": max(half),
                      "normal": NORMAL_HALF_L2}  # fmt: skip
            yield Sentence("concentration-half", values)


def _rank_sentences(rows: Sequence[Row]) -> Iterator[Sentence]:
    ranked = [row for row in rows if row["effective_rank"] is not None]
    if ranked:
        ranks = [row["effective_rank"] for row in ranked]
        most = max(row["rank"] for row in ranked)
        yield Sentence("concentration-rank", {"low": min(ranks), "high": max(ranks), "rank": most})
