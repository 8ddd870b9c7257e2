"""Where models moved: norms by layer and module kind, per recipe and as differences of two.

Model: a cell is the norm of a tensor, relative to the base's weights where all tensors have that
(else L2), as the mean over seeds; tensors of one kind in one layer are one cell by the root of
the sum of squares. A recipe's cells come from its comparisons with the base model, those of a
difference from the comparisons of a data pair.
    share of a kind = sum of its squared L2 / squared L2 of the whole
Invariant: a cell that not all seeds have measured says of how many it is.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from raylab.report.findings.caveats import caveats_of
from raylab.report.findings.finding import Finding, Sentence, Tables, finite, mean, over
from raylab.report.findings.seed_tables import Row, is_data_pair
from raylab.report.findings.tensor_location import kind_order, place_of
from raylab.report.findings.trained_models import Model, by_base, labels_of, models_of

Cells = dict[tuple[int | None, str], list[tuple[float, float | None]]]
"""By layer and kind: (L2, relative L2) of each seed."""


def where(tables: Tables) -> Finding:
    """The cells of all recipes and data pairs, and where the most is."""
    models = models_of(tables)
    rows: list[dict[str, Any]] = []
    said: list[Sentence] = []
    for base, mine in by_base(models).items():
        found = _subjects(tables, mine)
        every = [cell for _, cells in found.values() for of in cells.values() for cell in of]
        relative = all(value is not None for _, value in every)
        for (what, name), (label, cells) in found.items():
            head = {"model": base, "what": what, "name": name, "label": label}
            rows += _rows(head, cells, "relative_l2" if relative else "l2")
        said += _sentences(base, [row for row in rows if row["model"] == base])
    if not rows:
        said.append(Sentence("where.nothing", {}, "unknown"))
    return Finding("where", (), tuple(said), caveats_of(models), {"where": rows})


def _subjects(tables: Tables, models: Sequence[Model]) -> dict[tuple[str, str], tuple[str, Cells]]:
    """(recipe or difference, name) -> (label, cells)."""
    names = {model.name: model for model in models}
    trials = {row["name"]: row for row in tables["trials"]}
    labels = labels_of(models)
    found: dict[tuple[str, str], tuple[str, Cells]] = {}
    gathered: dict[tuple[str, str, str], dict[tuple[int | None, str], list[Row]]] = {}
    for row in tables.norms("tensor"):
        subject = _subject(row, names, trials, labels)
        if subject is None or finite(row["l2"]) is None:
            continue
        key, label = subject
        cells = gathered.setdefault((*key, row["comparison"]), {})
        cells.setdefault(place_of(row["key"]), []).append(row)
        found.setdefault(key, (label, {}))
    for (what, name, _), cells in gathered.items():
        mine = found[what, name][1]
        for place, tensors in cells.items():
            mine.setdefault(place, []).append(_cell(tensors))
    return found


def _subject(
    row: Row, names: Mapping[str, Model], trials: Mapping[str, Row], labels: Mapping[str, str]
) -> tuple[tuple[str, str], str] | None:
    a = names.get(row["a"])
    if a is None:
        return None
    if row["b"] == a.base_model:
        return ("recipe", a.stem), labels[a.stem]
    b = names.get(row["b"])
    if b is None or not is_data_pair(trials[row["a"]], trials[row["b"]]):
        return None
    return ("difference", f"{a.stem}~{b.stem}"), f"{labels[a.stem]} vs {labels[b.stem]}"


def _cell(tensors: Sequence[Row]) -> tuple[float, float | None]:
    """L2 and relative L2 of tensors taken together; no relative one where a part has none."""
    l2 = math.sqrt(math.fsum(row["l2"] ** 2 for row in tensors))
    relative = [finite(row["relative_l2"]) for row in tensors]
    if len(tensors) == 1:
        return l2, relative[0]
    if not all(relative):
        return l2, None
    weights = (row["l2"] / (r or 1.0) for row, r in zip(tensors, relative, strict=True))
    return l2, l2 / math.sqrt(math.fsum(weight**2 for weight in weights))


def _rows(head: Mapping[str, Any], cells: Cells, measure: str) -> Iterator[dict[str, Any]]:
    total = math.fsum((mean([l2 for l2, _ in found]) or 0) ** 2 for found in cells.values())
    order = sorted(cells, key=lambda place: (place[0] is None, place[0] or 0, kind_order(place[1])))
    for place in order:
        found = cells[place]
        l2 = mean([value for value, _ in found]) or 0.0
        relative = mean([value for _, value in found if value is not None])
        yield {
            **head,
            "layer": place[0],
            "kind": place[1],
            "measure": measure,
            "value": relative if measure == "relative_l2" else l2,
            "l2": l2,
            "relative_l2": relative,
            "share": over(l2**2, total),
            "seeds": len(found),
        }


def _sentences(base: str, rows: Sequence[Mapping[str, Any]]) -> Iterator[Sentence]:
    recipes = [row for row in rows if row["what"] == "recipe"] or list(rows)
    subjects: dict[str, list[Mapping[str, Any]]] = {}
    for row in recipes:
        subjects.setdefault(row["name"], []).append(row)
    if not subjects:
        return
    tops: dict[str, list[float]] = {}
    for mine in subjects.values():
        kinds: dict[str, float] = {}
        for row in mine:
            kinds[row["kind"]] = kinds.get(row["kind"], 0.0) + (row["share"] or 0.0)
        kind = max(kinds, key=lambda name: kinds[name])
        tops.setdefault(kind, []).append(kinds[kind])
    for kind, shares in sorted(tops.items(), key=lambda item: -len(item[1])):
        values = {"model": base, "kind": kind, "count": len(shares), "total": len(subjects),
                  "low": min(shares), "high": max(shares)}  # fmt: skip
        is_recipe = next(iter(subjects.values()))[0]["what"] == "recipe"
        yield Sentence("where.kind" if is_recipe else "where.kind_difference", values)
    yield from _depths(base, subjects)


def _depths(base: str, subjects: Mapping[str, Sequence[Mapping[str, Any]]]) -> Iterator[Sentence]:
    """How much of the squared L2 lies in the last half of the layers."""
    shares = []
    layers: list[int] = []
    for mine in subjects.values():
        inside = [row for row in mine if row["layer"] is not None]
        layers = sorted({row["layer"] for row in inside})
        whole = math.fsum(row["l2"] ** 2 for row in inside)
        late = set(layers[(len(layers) + 1) // 2 :])
        if whole and late:
            shares.append(math.fsum(r["l2"] ** 2 for r in inside if r["layer"] in late) / whole)
    if shares:
        values = {"model": base, "low": min(shares), "high": max(shares), "layers": len(layers),
                  "late": len(layers) // 2}  # fmt: skip
        yield Sentence("where.depth", values)
