"""Which entries move: how many by more than a tolerance, and how many the same as other models.

Model: the share of entries moved is `moved` over `numel` of a task vector (table norms), for each
view; of a recipe it is the mean over seeds, beside the spread between them. Of several models the
table kept_by counts the entries among the largest of all of them; what seeds of one recipe have in
common is the baseline of what recipes have in common at one seed.
Invariant: a recipe without a count has no row; a share over chance is None where chance is zero.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from raylab.report.findings.finding import Finding, Sentence
from raylab.report.findings.statistics import mean, ratio_of
from raylab.report.findings.trained_models import (
    Model,
    by_base_model,
    by_recipe,
    labels_of,
    models_of,
)
from raylab.report.study_tables import VIEW, Row, Rows, Tables, finite, grouped

SEEDS, RECIPES = "recipe", "seed"
"""The groups of kept_by: the seeds of one recipe, the recipes of one seed."""


def find(tables: Tables) -> Finding:
    """The entries that each recipe moves, and those that groups of models have in common."""
    models = models_of(tables)
    moved: list[dict[str, Any]] = []
    shared: list[dict[str, Any]] = []
    answer: list[Sentence] = []
    details: list[Sentence] = []
    for base, of_base in by_base_model(models).items():
        rows = list(_moved_rows(tables, of_base))
        groups = list(_shared_rows(tables, base, labels_of(of_base)))
        moved, shared = moved + rows, shared + groups
        of_views, of_groups = [*_moved_sentences(base, rows)], [*_shared_sentences(base, groups)]
        # What recipes have in common answers; what seeds have stands beside it.
        answer += [*of_views[:1], *of_groups[-1:]]
        details += [*of_views[1:], *of_groups[:-1]]
    if not answer:
        answer.append(Sentence("entries-nothing", {}, "unknown"))
    frames = {"moved": moved, "shared": shared}
    return Finding("entries", tuple(answer), tuple(details), frames=frames)


def _moved_rows(tables: Tables, models: Sequence[Model]) -> Iterator[dict[str, Any]]:
    labels = labels_of(models)
    of_view = grouped(tables.rows("norms", level="all"), lambda row: str(row["view"]))
    for view, rows in of_view.items():
        base = models[0].base_model
        known = {r["a"]: r for r in rows if r["b"] == base and r["moved"] is not None}
        for recipe, seeds in by_recipe(models).items():
            found = [known[model.name] for model in seeds if model.name in known]
            if not found:
                continue
            shares = [row["moved"] / row["numel"] for row in found]
            yield {
                "model": base,
                "recipe": recipe,
                "label": labels[recipe],
                "view": view,
                "tolerance": found[0]["tolerance"],
                "seeds": len(found),
                "moved_share": mean(shares),
                "seed_spread": max(shares) - min(shares) if len(shares) > 1 else None,
                "nonzero_share": mean([row["nonzero"] / row["numel"] for row in found]),
            }


def _shared_rows(tables: Tables, base: str, labels: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    """The groups of whole models, at every density that leaves entries out."""
    for row in tables.rows("kept_by", view=VIEW, level="all"):
        if row["model"] != base or row["density"] >= 1 or not row["numel"]:
            continue
        size = row["numel"]
        yield {
            "model": base,
            "group": row["group"],
            "name": row["name"],
            "label": labels.get(f"{base}.{row['name']}", row["name"] or row["group"]),
            "models": len(row["models"]),
            "density": row["density"],
            "all_share": row["by_all"] / size,
            "chance_share": row["all_by_chance"] / size,
            "over_chance": ratio_of(row["by_all"], finite(row["all_by_chance"])),
            "in_common": row["by_all"] / size / row["density"],
            "common_by_chance": row["all_by_chance"] / size / row["density"],
            "some_share": row["by_some"] / size,
            "one_share": row["by_one"] / size,
            "none_share": row["by_none"] / size,
            "sign_conflict": row["sign_conflict"],
        }


def _moved_sentences(base: str, rows: Rows) -> Iterator[Sentence]:
    for view, found in grouped(rows, lambda row: str(row["view"])).items():
        shares = [row["moved_share"] for row in found]
        spreads = [row["seed_spread"] for row in found if row["seed_spread"] is not None]
        values = {
            "model": base,
            "view": view,
            "tolerance": found[0]["tolerance"],
            "recipes": len(found),
            "low": min(shares),
            "high": max(shares),
            "seeds": Sentence("entries-spread", {"spread": max(spreads)}) if spreads else "",
        }
        yield Sentence("entries-moved", values)


def _shared_sentences(base: str, rows: Rows) -> Iterator[Sentence]:
    """What models have in common among their largest entries, at the smallest density."""
    if not rows:
        return
    density = min(row["density"] for row in rows)
    groups = grouped((r for r in rows if r["density"] == density), lambda row: str(row["group"]))
    for group in (SEEDS, RECIPES):
        if found := groups.get(group):
            yield Sentence(f"entries-shared_{group}", _shared_values(base, density, found))


def _shared_values(base: str, density: float, rows: Sequence[Row]) -> dict[str, Any]:
    conflicts = [row["sign_conflict"] for row in rows if row["sign_conflict"] is not None]
    return {
        "model": base,
        "density": density,
        "low": min(row["in_common"] for row in rows),
        "high": max(row["in_common"] for row in rows),
        "chance_low": min(row["common_by_chance"] for row in rows),
        "chance_high": max(row["common_by_chance"] for row in rows),
        "models": max(row["models"] for row in rows),
        "conflict": max(conflicts, default=None),
    }
