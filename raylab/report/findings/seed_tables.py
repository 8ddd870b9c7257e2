"""What the tables say: findings as values, out of rows.

Model: a data pair is a comparison of two trials that share base model, method, seed, learning
rate and parent, and differ in data. The data pairs of all seeds that are otherwise equal make
one SeedRow; seed tables are SeedRows in the order of the norms table.
Invariant: pure functions of lists of row dictionaries; nothing is read, written or drawn here.
A comparison at level "all" is in a seed table or named among those left out; what was not
measured is None, never zero.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from raylab.number_format import plural
from raylab.spec.merges import METHODS

Row = Mapping[str, Any]
Rows = Sequence[Row]

VIEW = "delta"
STABLE, VARIES = 1.25, 2.0


@dataclass(frozen=True)
class SeedRow:
    """One data pair over all seeds; `comparisons`, `l1` and `l2` are by seed."""

    model: str
    label: str
    method: str
    learning_rate: float | None
    recipes: tuple[str, str]
    seeds: tuple[int, ...]
    comparisons: Mapping[int, str]
    l1: Mapping[int, float | None]
    l2: Mapping[int, float | None]

    @property
    def ratio(self) -> float | None:
        """The largest L2 over the smallest; None with fewer than two, or where one is zero."""
        values = [value for value in self.l2.values() if value is not None]
        if len(values) < 2 or min(values) <= 0:
            return None
        return max(values) / min(values)

    @property
    def verdict(self) -> str:
        """stable, varies, or seed where it is the seed's doing; else why there is no ratio:
        zero, one_seed, some_seeds."""
        if self.ratio is not None:
            if self.ratio <= STABLE:
                return "stable"
            return "varies" if self.ratio <= VARIES else "seed"
        if sum(value is not None for value in self.l2.values()) >= 2:
            return "zero"
        return "one_seed" if len(self.seeds) == 1 else "some_seeds"


@dataclass(frozen=True)
class SeedTables:
    """The two tables of a progress report.

    `like`: data pairs at a learning rate that methods share. `unlike`: for each other learning
    rate, its data pairs beside those of the other methods at the shared one. `others`: the
    comparisons that are no data pairs.
    """

    seeds: tuple[int, ...]
    like: tuple[SeedRow, ...]
    unlike: tuple[tuple[SeedRow, ...], ...]
    others: tuple[str, ...]

    @property
    def rows(self) -> tuple[SeedRow, ...]:
        """Every data pair once: first those at like, then those at unlike learning rates."""
        every = [*self.like, *(row for group in self.unlike for row in group)]
        return tuple({(row.model, row.recipes): row for row in every}.values())


def is_merge(trial: Row) -> bool:
    """Whether a row of the trials table is a merge."""
    return trial["method"] in METHODS


def amount(trials: Rows) -> str:
    """How many: 3 trials, or 3 trials and 1 merge."""
    merges = sum(map(is_merge, trials))
    and_merges = f" and {plural(merges, 'merge')}" if merges else ""
    return plural(len(trials) - merges, "trial") + and_merges


def stem(trial: Row) -> str:
    """The trial's name without its seed: what trials of all seeds share."""
    return str(trial["name"]).removesuffix(f".s{trial['seed']}")


def seed_tables(trials: Rows, norms: Rows, view: str = VIEW) -> SeedTables:
    """The data pairs of `norms` at level "all", by seed, at like and at unlike learning rates."""
    by_name = {trial["name"]: trial for trial in trials}
    whole = [row for row in norms if row["level"] == "all" and row["view"] == view]
    seeds = tuple(dict.fromkeys(t["seed"] for t in trials if t["seed"] is not None))
    groups: dict[tuple[str, str], dict[int, Row]] = {}
    others = []
    for row in whole:
        sides = by_name.get(row["a"]), by_name.get(row["b"])
        if not is_data_pair(*sides):
            others.append(row["comparison"])
            continue
        a, b = sides
        assert a is not None and b is not None
        groups.setdefault((stem(a), stem(b)), {})[a["seed"]] = row
    rows = _named_apart([_seed_row(by_name, seeds, found) for found in groups.values()])
    return SeedTables(seeds, *_by_learning_rate(rows), others=tuple(others))


def is_data_pair(a: Row | None, b: Row | None) -> bool:
    """Whether two trials differ in data, and agree in all that a seed table holds fixed."""
    if a is None or b is None or a["data"] == b["data"] or is_merge(a):
        return False
    fixed = ("model", "method", "seed", "learning_rate")
    return all(a[key] == b[key] for key in fixed) and _parent_stem(a) == _parent_stem(b)


def _parent_stem(trial: Row) -> str | None:
    parent = trial["parent"]
    return str(parent).removesuffix(f".s{trial['seed']}") if parent else None


def _seed_row(
    by_name: Mapping[str, Row], seeds: tuple[int, ...], found: Mapping[int, Row]
) -> SeedRow:
    first = next(iter(found.values()))
    a, b = by_name[first["a"]], by_name[first["b"]]
    return SeedRow(
        model=a["model"],
        label=f"{a['label'] or a['recipe']} vs {b['label'] or b['recipe']}",
        method=a["method"],
        learning_rate=a["learning_rate"],
        recipes=(stem(a), stem(b)),
        seeds=seeds,
        comparisons={seed: row["comparison"] for seed, row in found.items()},
        l1={seed: _finite(found.get(seed, {}).get("l1")) for seed in seeds},
        l2={seed: _finite(found.get(seed, {}).get("l2")) for seed in seeds},
    )


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def _named_apart(rows: Sequence[SeedRow]) -> list[SeedRow]:
    """The same rows; those with one label at one learning rate also say their recipes."""

    def key(row: SeedRow) -> tuple[str, str, float | None]:
        return row.model, row.label, row.learning_rate

    counts: dict[Any, int] = {}
    for row in rows:
        counts[key(row)] = counts.get(key(row), 0) + 1
    return [
        row
        if counts[key(row)] == 1
        else SeedRow(**{**vars(row), "label": f"{row.label} [{' ~ '.join(row.recipes)}]"})
        for row in rows
    ]


def _by_learning_rate(
    rows: Sequence[SeedRow],
) -> tuple[tuple[SeedRow, ...], tuple[tuple[SeedRow, ...], ...]]:
    like: list[SeedRow] = []
    unlike: list[tuple[SeedRow, ...]] = []
    for model in dict.fromkeys(row.model for row in rows):
        mine = [row for row in rows if row.model == model]
        shared = _shared_rates(mine)
        like += [row for rate in shared for row in mine if row.learning_rate == rate]
        unlike += _unlike_groups(mine, shared)
    return tuple(like), tuple(unlike)


def _shared_rates(rows: Sequence[SeedRow]) -> list[float | None]:
    """Learning rates of at least two methods; all of them where there is one method only."""
    methods = {row.method for row in rows}
    rates = dict.fromkeys(row.learning_rate for row in rows)
    users = {rate: {row.method for row in rows if row.learning_rate == rate} for rate in rates}
    return [rate for rate in rates if len(users[rate]) >= min(2, len(methods))]


def _unlike_groups(
    rows: Sequence[SeedRow], shared: Sequence[float | None]
) -> list[tuple[SeedRow, ...]]:
    rest = [row for row in rows if row.learning_rate not in shared]
    if not shared:
        return [tuple(rest)] if rest else []
    groups = []
    for rate in dict.fromkeys(row.learning_rate for row in rest):
        own = [row for row in rest if row.learning_rate == rate]
        methods = {row.method for row in own}
        beside = [r for r in rows if r.learning_rate in shared and r.method not in methods]
        groups.append((*own, *beside))
    return groups
