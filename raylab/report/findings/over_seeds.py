"""Norms of data pairs over seeds: the two tables of the original progress report, with verdicts.

Model: a data pair is a comparison of two trials that share base model, method, seed, learning
rate and parent, and differ in data. The data pairs that are equal but for the seed make one
SeedRow. Rows stand in two tables: at learning rates that methods share, and at others. Beside the
norms stand the seed baseline of the pair's recipes (the ratio of the norms, the distance of two
seeds) and, with three seeds or more, mean, standard deviation and bootstrap interval.
Invariant: every comparison of whole models is in a table or counted as no data pair; a norm that
was not measured is None, never zero; a verdict follows from the ratio.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from raylab.report.findings.finding import Finding, Grade, Sentence
from raylab.report.findings.statistics import (
    MIN_VALUES,
    bootstrap_interval,
    mean,
    ratio_of,
    standard_deviation,
)
from raylab.report.findings.trained_models import Distances, by_recipe, models_of
from raylab.report.study_tables import Row, Tables, finite, grouped, parent_recipe_of, recipe_of
from raylab.spec.merge_methods import is_merge
from raylab.spec.seeds import Level, seeds_of

STABLE, VARIES = 1.25, 2.0
GRADES: dict[str, Grade] = {"stable": "good", "varies": "fair", "seed": "bad"}


@dataclass(frozen=True)
class SeedRow:
    """One data pair over all seeds; `comparisons`, `l1` and `l2` are by seed."""

    model: str
    label: str
    method: str
    learning_rate: float | None
    recipes: tuple[str, str]
    comparisons: Mapping[Level, str]
    l1: Mapping[Level, float | None]
    l2: Mapping[Level, float | None]

    @property
    def measured(self) -> list[float]:
        """The L2 norms that are known."""
        return [value for value in self.l2.values() if value is not None]

    @property
    def ratio(self) -> float | None:
        """The largest L2 over the smallest; None with fewer than two, or where one is zero."""
        values = self.measured
        return max(values) / min(values) if len(values) > 1 and min(values) > 0 else None

    @property
    def verdict(self) -> str:
        """stable, varies or seed, by the ratio; without one the reason: zero, one_seed,
        some_seeds."""
        if self.ratio is not None:
            if self.ratio <= STABLE:
                return "stable"
            return "varies" if self.ratio <= VARIES else "seed"
        if len(self.measured) > 1:
            return "zero"
        return "one_seed" if len(self.l2) == 1 else "some_seeds"


@dataclass(frozen=True)
class SeedTables:
    """The two tables of a progress report.

    `shared_rate`: data pairs at a learning rate that methods share. `other_rates`: for each other
    learning rate, its data pairs beside those of the other methods at the shared one.
    `no_data_pairs`: the names of all other comparisons.
    """

    seeds: tuple[Level, ...]
    shared_rate: tuple[SeedRow, ...]
    other_rates: tuple[tuple[SeedRow, ...], ...]
    no_data_pairs: tuple[str, ...]

    @property
    def rows(self) -> tuple[SeedRow, ...]:
        """Every data pair once, those of the first table first."""
        every = [*self.shared_rate, *(row for group in self.other_rates for row in group)]
        return tuple({(row.model, row.recipes): row for row in every}.values())


def find(tables: Tables) -> Finding:
    """The two tables, and a sentence for each data pair."""
    found = seed_tables(tables)
    models, distances = models_of(tables), Distances(tables)
    recipes = by_recipe(models)

    def record(row: SeedRow) -> dict[str, Any]:
        between = [d for recipe in row.recipes for d in distances.among(recipes.get(recipe, ()))]
        return _record(row, mean(between))

    shared = [record(row) for row in found.shared_rate]
    groups = enumerate(found.other_rates, 1)
    others = [{"group": number, **record(row)} for number, rows in groups for row in rows]
    frames = {"seeds_like": shared, "seeds_unlike": others}
    answer = [*_summary(found)] or [Sentence("seeds-nothing")]
    return Finding("seeds", tuple(answer), tuple(_sentences(found)), (), frames)


def _record(row: SeedRow, seed_distance: float | None) -> dict[str, Any]:
    """The row as the frames have it, with one column for each norm and seed."""
    low, high = bootstrap_interval(row.measured)
    norms: dict[str, float | None] = {}
    for seed in row.l2:
        norms |= {f"l1_s{seed}": row.l1[seed], f"l2_s{seed}": row.l2[seed]}
    return {
        "model": row.model,
        "pair": row.label,
        "recipes": "~".join(row.recipes),
        "method": row.method,
        "learning_rate": row.learning_rate,
        **norms,
        "mean": mean(row.measured) if len(row.measured) >= MIN_VALUES else None,
        "deviation": standard_deviation(row.measured),
        "low": low,
        "high": high,
        "ratio": row.ratio,
        "seed_distance": seed_distance,
        "times_seed": ratio_of(mean(row.measured), seed_distance),
        "verdict": row.verdict,
    }


def _summary(found: SeedTables) -> Iterator[Sentence]:
    """For each base model: how many norms are stable over seeds, and the one that is least."""
    for base, rows in grouped(found.rows, lambda row: row.model).items():
        known = [row for row in rows if row.ratio is not None]
        if not known:
            yield Sentence("seeds-unknown", {"model": base, "total": len(rows)}, "unknown")
            continue
        counts = Counter(row.verdict for row in known)
        least = max(known, key=lambda row: row.ratio or 0.0)
        values: dict[str, Any] = {name: counts[name] for name in ("stable", "varies", "seed")}
        values |= {"model": base, "total": len(rows), "pair": least.label, "ratio": least.ratio,
                   "learning_rate": least.learning_rate}  # fmt: skip
        yield Sentence("seeds-summary", values, GRADES[least.verdict])


def _sentences(found: SeedTables) -> Iterator[Sentence]:
    several = len({row.model for row in found.rows}) > 1
    for row in found.rows:
        values = {
            "pair": f"{row.model}: {row.label}" if several else row.label,
            "learning_rate": row.learning_rate,
            "l2": tuple(row.l2.items()),
            "ratio": row.ratio,
            "measured": len(row.measured),
            "seeds": len(row.l2),
        }
        yield Sentence(f"seeds-{row.verdict}", values, GRADES.get(row.verdict, "unknown"))
    if found.no_data_pairs:
        yield Sentence("seeds-others", {"count": len(found.no_data_pairs)})


def seed_tables(tables: Tables) -> SeedTables:
    """The data pairs of the norms table by seed, in its order."""
    trials = {trial["name"]: trial for trial in tables["trials"]}
    levels = {name: seed.level for name, trial in trials.items() if (seed := seeds_of(trial))}
    seeds = tuple(dict.fromkeys(levels.values()))
    trained = {(recipe_of(trials[name]), level) for name, level in levels.items()}
    pairs: dict[tuple[str, str], dict[Level, Row]] = {}
    no_data_pairs = []
    for row in tables.norms():
        a, b = trials.get(row["a"]), trials.get(row["b"])
        if a is None or b is None or not is_data_pair(a, b):
            no_data_pairs.append(row["comparison"])
        else:
            pairs.setdefault((recipe_of(a), recipe_of(b)), {})[levels[row["a"]]] = row
    of_pairs = {
        pair: [seed for seed in seeds if all((recipe, seed) in trained for recipe in pair)]
        for pair in pairs
    }
    rows = _seed_rows(trials, of_pairs, pairs)
    shared_rate: list[SeedRow] = []
    other_rates: list[tuple[SeedRow, ...]] = []
    for model in dict.fromkeys(row.model for row in rows):
        shared, others = _by_learning_rate([row for row in rows if row.model == model])
        shared_rate += shared
        other_rates += others
    return SeedTables(seeds, tuple(shared_rate), tuple(other_rates), tuple(no_data_pairs))


def _seed_rows(
    trials: Mapping[str, Row],
    seeds: Mapping[tuple[str, str], Sequence[Level]],
    pairs: Mapping[tuple[str, str], dict[Level, Row]],
) -> list[SeedRow]:
    """A row for each data pair, of the seeds of both recipes and its norms by seed."""
    rows = []
    for recipes, by_seed in pairs.items():
        first = next(iter(by_seed.values()))
        a, b = trials[first["a"]], trials[first["b"]]
        rows.append(
            SeedRow(
                model=a["model"],
                label=f"{a['label'] or a['recipe']} vs {b['label'] or b['recipe']}",
                method=a["method"],
                learning_rate=a["learning_rate"],
                recipes=recipes,
                comparisons={seed: row["comparison"] for seed, row in by_seed.items()},
                l1={seed: finite(by_seed.get(seed, {}).get("l1")) for seed in seeds[recipes]},
                l2={seed: finite(by_seed.get(seed, {}).get("l2")) for seed in seeds[recipes]},
            )
        )
    # Rows with one label at one learning rate also name their recipes.
    counts = Counter((row.model, row.label, row.learning_rate) for row in rows)
    return [
        row
        if counts[row.model, row.label, row.learning_rate] == 1
        else replace(row, label=f"{row.label} [{' ~ '.join(row.recipes)}]")
        for row in rows
    ]


def is_data_pair(a: Row, b: Row) -> bool:
    """Whether two trials differ in data, and agree in all that a data pair holds fixed."""
    if a["data"] == b["data"] or is_merge(a) or seeds_of(a) != seeds_of(b):
        return False
    fixed = ("model", "method", "learning_rate")
    return all(a[key] == b[key] for key in fixed) and parent_recipe_of(a) == parent_recipe_of(b)


def _by_learning_rate(
    rows: Sequence[SeedRow],
) -> tuple[list[SeedRow], list[tuple[SeedRow, ...]]]:
    """Rows of one base model at learning rates that methods share; groups at each other rate.

    A rate is shared by two methods, or by all where there is one method. A group has, beside the
    rows at its rate, those of the other methods at the shared rates.
    """
    methods = {row.method for row in rows}
    at_rate = {
        rate: [row for row in rows if row.learning_rate == rate]
        for rate in dict.fromkeys(row.learning_rate for row in rows)
    }
    shared = [
        rate
        for rate, own in at_rate.items()
        if len({row.method for row in own}) >= min(2, len(methods))
    ]
    if not shared:
        return [], [tuple(rows)] if rows else []
    groups = []
    for rate in (rate for rate in at_rate if rate not in shared):
        own = at_rate[rate]
        own_methods = {row.method for row in own}
        beside = [r for r in rows if r.learning_rate in shared and r.method not in own_methods]
        groups.append((*own, *beside))
    return [row for rate in shared for row in at_rate[rate]], groups
