"""Where models moved: norms by layer and module kind, per recipe and as differences of two.

Model: a tensor's name gives its layer, the first number in it, and its kind, the last part of it
as a row of KINDS; KINDS gives one kind to the counterparts of all architectures. A cell is the
norm of a tensor, relative to the base's weights where all tensors have that (else L2), as the mean
over seeds; tensors of one kind in one layer are one cell by the root of the sum of squares. A
recipe's cells come from its comparisons with the base model, those of a difference from the
comparisons of a data pair.
    share of a kind = sum of its squared L2 / squared L2 of the whole
Invariant: a kind without a row in KINDS is the last part of the name itself; no tensor is left
out. A cell that not all seeds have measured gives the number of its seeds.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

from raylab.report.findings.finding import Finding, Sentence
from raylab.report.findings.over_seeds import is_data_pair
from raylab.report.findings.statistics import mean, ratio_of
from raylab.report.findings.trained_models import (
    Model,
    by_base_model,
    labels_of,
    models_of,
)
from raylab.report.study_tables import Row, Rows, Tables, finite, grouped

KINDS: dict[str, str] = {
    "q_proj": "q",
    "k_proj": "k",
    "v_proj": "v",
    "o_proj": "o",
    "gate_proj": "gate",
    "up_proj": "up",
    "down_proj": "down",
    # One matrix for several parts: GPT-NeoX, Falcon, GPT-2, Phi-3.
    "query_key_value": "qkv",
    "qkv_proj": "qkv",
    "c_attn": "qkv",
    "gate_up_proj": "gate+up",
    # The counterparts of o, up and down: GPT-NeoX, GPT-2, Phi.
    "attention.dense": "o",
    "self_attn.dense": "o",
    "self_attention.dense": "o",
    "attn.c_proj": "o",
    "out_proj": "o",
    "dense_h_to_4h": "up",
    "c_fc": "up",
    "fc1": "up",
    "dense_4h_to_h": "down",
    "mlp.c_proj": "down",
    "fc2": "down",
    "lm_head": "head",
    "embed_out": "head",
    "embed_tokens": "embedding",
    "embed_in": "embedding",
    "wte": "embedding",
}
"""By the last part of a tensor's name, or the last two: its kind."""
ORDER = ("q", "k", "v", "qkv", "o", "gate", "up", "gate+up", "down", "embedding", "head")

Location = tuple[int | None, str]
"""Layer and kind of a tensor."""
Cells = dict[Location, list[tuple[float, float | None]]]
"""By location: (L2, relative L2) of each seed."""


def location_of(tensor: str) -> Location:
    """The layer and the kind of a tensor's name; no layer for an embedding or a head."""
    parts = tensor.removesuffix(".weight").removesuffix(".bias").split(".")
    layer = next((int(part) for part in parts if part.isdigit()), None)
    last, last_two = parts[-1], ".".join(parts[-2:])
    return layer, KINDS.get(last_two, KINDS.get(last, last))


def kind_order(kind: str) -> tuple[int, str]:
    """A key that sorts kinds as data flow through a layer, the others after them by name."""
    return (ORDER.index(kind) if kind in ORDER else len(ORDER), kind)


def find(tables: Tables) -> Finding:
    """The cells of all recipes and data pairs, and where the most of the norm is."""
    models = models_of(tables)
    rows: list[dict[str, Any]] = []
    answer: list[Sentence] = []
    details: list[Sentence] = []
    for base, of_base in by_base_model(models).items():
        subjects = _subjects(tables, of_base)
        every = (cell for _, cells in subjects.values() for cell in cells.values())
        is_relative = all(relative is not None for seeds in every for _, relative in seeds)
        measure = "relative_l2" if is_relative else "l2"
        own: list[dict[str, Any]] = []
        for (what, name), (label, cells) in subjects.items():
            head = {"model": base, "what": what, "name": name, "label": label}
            own += [head | row for row in _rows(cells, measure)]
        kinds, depth = _sentences(base, own)
        answer += [*kinds[:1], *depth]
        details += kinds[1:]
        rows += own
    if not rows:
        answer.append(Sentence("where-nothing", {}, "unknown"))
    return Finding("where", tuple(answer), tuple(details), frames={"where": rows})


def cells_of(tensors: Rows) -> list[dict[str, Any]]:
    """The cells of one difference of two models, out of its rows of tensors in the norms table."""
    places = grouped(tensors, lambda row: location_of(row["key"]))
    cells = {place: [_norms_together(of_place)] for place, of_place in places.items()}
    is_relative = all(relative is not None for ((_, relative),) in cells.values())
    return list(_rows(cells, "relative_l2" if is_relative else "l2"))


def _subjects(tables: Tables, models: Sequence[Model]) -> dict[tuple[str, str], tuple[str, Cells]]:
    """(recipe or difference, name) -> (label, cells)."""
    by_name = {model.name: model for model in models}
    trials = {row["name"]: row for row in tables["trials"]}
    labels = labels_of(models)
    subjects: dict[tuple[str, str], tuple[str, Cells]] = {}
    known = [row for row in tables.norms("tensor") if finite(row["l2"]) is not None]
    for rows in grouped(known, lambda row: row["comparison"]).values():
        a, b = by_name.get(rows[0]["a"]), by_name.get(rows[0]["b"])
        if a is None:
            continue
        if rows[0]["b"] == a.base_model:
            key, label = ("recipe", a.recipe), labels[a.recipe]
        elif b is not None and is_data_pair(trials[a.name], trials[b.name]):
            key = ("difference", f"{a.recipe}~{b.recipe}")
            label = f"{labels[a.recipe]} vs {labels[b.recipe]}"
        else:
            continue
        cells = subjects.setdefault(key, (label, {}))[1]
        for location, tensors in grouped(rows, lambda row: location_of(row["key"])).items():
            cells.setdefault(location, []).append(_norms_together(tensors))
    return subjects


def _norms_together(tensors: Rows) -> tuple[float, float | None]:
    """L2 and relative L2 of tensors taken together; no relative one where a tensor has none."""
    l2 = math.sqrt(math.fsum(row["l2"] ** 2 for row in tensors))
    relative = [finite(row["relative_l2"]) for row in tensors]
    if len(tensors) == 1:
        return l2, relative[0]
    if not all(relative):
        return l2, None
    weights = (row["l2"] / (r or 1.0) for row, r in zip(tensors, relative, strict=True))
    return l2, l2 / math.sqrt(math.fsum(weight**2 for weight in weights))


def _rows(cells: Cells, measure: str) -> Iterator[dict[str, Any]]:
    """The cells of one subject in the order of layers and kinds, those outside of layers last."""
    total = math.fsum((mean([l2 for l2, _ in seeds]) or 0) ** 2 for seeds in cells.values())
    order = sorted(cells, key=lambda at: (at[0] is None, at[0] or 0, kind_order(at[1])))
    for location in order:
        seeds = cells[location]
        l2 = mean([value for value, _ in seeds]) or 0.0
        relative = mean([value for _, value in seeds if value is not None])
        yield {
            "layer": location[0],
            "kind": location[1],
            "measure": measure,
            "value": relative if measure == "relative_l2" else l2,
            "l2": l2,
            "relative_l2": relative,
            "share": ratio_of(l2**2, total),
            "seeds": len(seeds),
        }


def _sentences(base: str, rows: Sequence[Row]) -> tuple[list[Sentence], list[Sentence]]:
    """The kinds that have the most of a recipe, else of a difference, the most frequent first;
    and what the late layers have."""
    recipes = [row for row in rows if row["what"] == "recipe"]
    subjects = grouped(recipes or rows, lambda row: str(row["name"]))
    largest: dict[str, list[float]] = {}
    late_shares: list[float] = []
    layers: list[int] = []
    for cells in subjects.values():
        kinds = grouped(cells, lambda row: str(row["kind"]))
        shares = {kind: sum(row["share"] or 0.0 for row in of) for kind, of in kinds.items()}
        kind = max(shares, key=lambda name: shares[name])
        largest.setdefault(kind, []).append(shares[kind])
        inside = [row for row in cells if row["layer"] is not None]
        layers = sorted({row["layer"] for row in inside})
        late = set(layers[(len(layers) + 1) // 2 :])
        whole = math.fsum(row["l2"] ** 2 for row in inside)
        if whole and late:
            late_l2 = math.fsum(row["l2"] ** 2 for row in inside if row["layer"] in late)
            late_shares.append(late_l2 / whole)
    found: list[Sentence] = []
    for kind, tops in sorted(largest.items(), key=lambda item: -len(item[1])):
        values = {"model": base, "kind": kind, "count": len(tops), "total": len(subjects),
                  "low": min(tops), "high": max(tops)}  # fmt: skip
        found.append(Sentence("where-kind" if recipes else "where-kind_difference", values))
    if not late_shares:
        return found, []
    values = {"model": base, "low": min(late_shares), "high": max(late_shares),
              "layers": len(layers), "late": len(layers) // 2}  # fmt: skip
    return found, [Sentence("where-depth", values)]
