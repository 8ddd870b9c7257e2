"""How concentrated a difference is: the share of its norms in the largest entries.

Model: the curve table gives, for a density d, the share of L1 and of L2 that the largest d of all
entries hold. Read off it, by linear interpolation of the share over log d: the density that holds
half of a norm, and the share of the largest 1 % and 10 %. For independent normal entries, with z
such that 2 (1 - Phi(z)) = d,

    share of L1 = exp(-z^2 / 2)          share of L2 = sqrt(d + 2 z phi(z)),

so that half of L1 is in the largest 23.9 % and half of L2 in the largest 4.27 %. Effective rank is
exp of the entropy of the singular values' shares (Roy and Vetterli 2007), the mean over tensors.
Invariant: shares of what was not measured are None; a density between two points lies between.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from raylab.report.findings.caveats import caveats_of
from raylab.report.findings.finding import Finding, Sentence, Tables, finite, mean
from raylab.report.findings.seed_tables import VIEW, Row
from raylab.report.findings.trained_models import Model, labels_of, models_of

NORMAL_HALF = {"l1": 0.239032, "l2": 0.042672}
"""The density that holds half of a norm of normal entries."""
POINTS = 64
_AT_DENSITY = (
    "density",
    "num_keep",
    "threshold",
    "at_or_above",
    "l1",
    "l2",
    "l1_share",
    "l2_share",
)


def concentration(tables: Tables) -> Finding:
    """Curves of task vectors and data pairs, and what is read off them."""
    models = models_of(tables)
    names = {model.name: model for model in models}
    labels = labels_of(models)
    ranks = _ranks(tables)
    subjects, found = _subjects(tables, names, labels), _curves(tables)
    halves, curves = [], []
    for comparison, head in subjects.items():
        rows = sorted(found.get(comparison, ()), key=lambda row: row["density"])
        if not rows:
            continue
        halves.append({**head, **_read_off(rows), **_rank_of(head, ranks)})
        curves += [{**head, **_point(row)} for row in _thinned(rows)]
    said = tuple(_sentences(halves)) or (Sentence("concentration.nothing", {}, "unknown"),)
    densities = [
        {**subjects[row["comparison"]], **{key: row[key] for key in _AT_DENSITY}}
        for row in tables.rows("densities", view=VIEW)
        if row["comparison"] in subjects
    ]
    frames = {"concentration": halves, "curves": curves, "densities_of": densities}
    return Finding("concentration", (), said, caveats_of(models), frames)


def density_of_half(rows: Sequence[Row], column: str) -> float | None:
    """The density at which `column` reaches one half; None where the curve does not."""
    shares = _shares(rows, column)
    if shares is None or shares[0] > 0.5 or shares[-1] < 0.5:
        return None
    logs = np.log([row["density"] for row in rows])
    return float(np.exp(np.interp(0.5, shares, logs)))


def share_at(rows: Sequence[Row], column: str, density: float) -> float | None:
    """The share of the largest `density` of entries; None outside of the curve."""
    logs = np.log([row["density"] for row in rows])
    shares, place = _shares(rows, column), float(np.log(density))
    if shares is None or not logs[0] <= place <= logs[-1]:
        return None
    return float(np.interp(place, logs, shares))


def _shares(rows: Sequence[Row], column: str) -> np.ndarray | None:
    """The column as float64; None where a point has no share."""
    values = [finite(row[column]) for row in rows]
    return None if None in values else np.asarray(values, np.float64)


def _curves(tables: Tables) -> Mapping[str, list[Row]]:
    found: dict[str, list[Row]] = {}
    for row in tables.rows("curve", view=VIEW):
        if finite(row["l2_share"]) is not None:
            found.setdefault(row["comparison"], []).append(row)
    return found


def _subjects(
    tables: Tables, names: Mapping[str, Model], labels: Mapping[str, str]
) -> dict[str, dict[str, Any]]:
    """comparison -> what it is of: a task vector, or the difference of two models."""
    found = {}
    for row in tables.norms():
        a, b = names.get(row["a"]), names.get(row["b"])
        if a is None or (b is None and row["b"] != a.base_model):
            continue
        label = labels[a.stem] if b is None else f"{labels[a.stem]} vs {labels[b.stem]}"
        found[row["comparison"]] = {
            "model": a.base_model,
            "comparison": row["comparison"],
            "what": "task vector" if b is None else "difference",
            "a": a.name,
            "label": label,
            "seed": a.seed if b is None or a.seed == b.seed else None,
        }
    return found


def _read_off(rows: Sequence[Row]) -> dict[str, Any]:
    return {
        "half_l1": density_of_half(rows, "l1_share"),
        "half_l2": density_of_half(rows, "l2_share"),
        "l1_in_1": share_at(rows, "l1_share", 0.01),
        "l2_in_1": share_at(rows, "l2_share", 0.01),
        "l1_in_10": share_at(rows, "l1_share", 0.1),
        "l2_in_10": share_at(rows, "l2_share", 0.1),
    }


def _thinned(rows: Sequence[Row]) -> list[Row]:
    places = np.unique(np.linspace(0, len(rows) - 1, POINTS).round().astype(int))
    return [rows[place] for place in places]


def _point(row: Row) -> dict[str, Any]:
    return {key: row[key] for key in ("density", "l1_share", "l2_share")}


def _ranks(tables: Tables) -> dict[str, dict[str, Any]]:
    """By model: the mean effective rank of its tensors, and the rank of its adapter."""
    found: dict[str, list[Row]] = {}
    for row in tables["spectra"]:
        if finite(row["effective_rank"]) is not None:
            found.setdefault(row["model"], []).append(row)
    return {
        name: {
            "effective_rank": mean([row["effective_rank"] for row in rows]),
            "rank": max(row["rank"] for row in rows),
        }
        for name, rows in found.items()
    }


def _rank_of(head: Mapping[str, Any], ranks: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Spectra are those of task vectors; a difference of two has none."""
    found = ranks.get(head["a"], {}) if head["what"] == "task vector" else {}
    return {name: found.get(name) for name in ("effective_rank", "rank")}


def _sentences(halves: Sequence[Mapping[str, Any]]) -> Iterator[Sentence]:
    for what in ("task vector", "difference"):
        mine = [row for row in halves if row["what"] == what]
        half = [row["half_l2"] for row in mine if row["half_l2"] is not None]
        if half:
            values = {"what": what, "count": len(half), "low": min(half), "high": max(half),
                      "normal": NORMAL_HALF["l2"]}  # fmt: skip
            yield Sentence("concentration.half", values)
    ranks = [row["effective_rank"] for row in halves if row.get("effective_rank") is not None]
    if ranks:
        most = max(row["rank"] for row in halves if row.get("rank") is not None)
        values = {"low": min(ranks), "high": max(ranks), "rank": most}
        yield Sentence("concentration.rank", values)
