"""The tables of the original progress report: norms by pair and seed, with their verdicts.

Model: a row is a data pair over all seeds (`raylab.report.findings.seed_tables.seed_tables`), at
learning rates that methods share and at others; beside it stand the two floors (the spread of the
norm over seeds, and how far two seeds of either recipe end apart), and with three seeds or more
its mean, standard deviation and bootstrap interval.
Invariant: every data pair of the norms table has a row, and its verdict follows from its ratio.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from raylab.report.findings.caveats import caveats_of
from raylab.report.findings.finding import Finding, Grade, Sentence, Tables, deviation, mean, over
from raylab.report.findings.intervals import LEAST, bootstrap_interval
from raylab.report.findings.seed_baseline import seed_distances
from raylab.report.findings.seed_tables import SeedRow, SeedTables, seed_tables
from raylab.report.findings.trained_models import Distances, Model, models_of, recipes_of

GRADES: dict[str, Grade] = {"stable": "good", "varies": "fair", "seed": "bad"}


def seeds(tables: Tables) -> Finding:
    """The two tables, and a sentence for each data pair."""
    found = seed_tables(tables["trials"], tables.norms())
    unlike = [(group, row) for group, rows in enumerate(found.unlike, 1) for row in rows]
    models = models_of(tables)
    floors = _Floors(recipes_of(models), Distances(tables))
    frames = {
        "seeds_like": [_record(row, found, floors) for row in found.like],
        "seeds_unlike": [{"group": group, **_record(row, found, floors)} for group, row in unlike],
    }
    names = {name for row in found.rows for name in row.comparisons.values()}
    sides = {side for name in names for side in name.split("~")}
    resting = [model for model in models if model.name in sides]
    return Finding(
        "seeds",
        (),
        tuple(_sentences(found)) or (Sentence("seeds.nothing"),),
        caveats_of(resting),
        frames,
    )


def _sentences(found: SeedTables) -> Iterator[Sentence]:
    several = len({row.model for row in found.rows}) > 1
    for row in found.rows:
        values = {
            "pair": f"{row.model}: {row.label}" if several else row.label,
            "learning_rate": row.learning_rate,
            "l2": tuple((seed, row.l2[seed]) for seed in found.seeds),
            "ratio": row.ratio,
            "measured": sum(value is not None for value in row.l2.values()),
            "seeds": len(found.seeds),
        }
        yield Sentence(f"seeds.{row.verdict}", values, GRADES.get(row.verdict, "unknown"))
    if found.others:
        yield Sentence("seeds.others", {"count": len(found.others)})


@dataclass(frozen=True)
class _Floors:
    """How far seeds of a recipe end apart."""

    recipes: Mapping[str, Sequence[Model]]
    distances: Distances

    def of(self, row: SeedRow) -> float | None:
        """The mean distance of two seeds of either recipe."""
        found = [self.recipes.get(stem, ()) for stem in row.recipes]
        return mean([d for models in found for d in seed_distances(models, self.distances)])


def _record(row: SeedRow, found: SeedTables, floors: _Floors) -> dict[str, Any]:
    record: dict[str, Any] = {
        "model": row.model,
        "pair": row.label,
        "recipes": "~".join(row.recipes),
        "method": row.method,
        "learning_rate": row.learning_rate,
    }
    for seed in found.seeds:
        record |= {f"l1_s{seed}": row.l1[seed], f"l2_s{seed}": row.l2[seed]}
    values = [value for value in row.l2.values() if value is not None]
    low, high = bootstrap_interval(values)
    known, floor = mean(values), floors.of(row)
    average = known if len(values) >= LEAST else None
    spread = {"mean": average, "deviation": deviation(values), "low": low, "high": high}
    return {
        **record,
        **spread,
        "ratio": row.ratio,
        "seed_distance": floor,
        "times_seed": over(known, floor),
        "verdict": row.verdict,
    }
