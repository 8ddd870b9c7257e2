"""Whether models lie in one basin: barriers of the loss on the straight lines between them.

Model: the connectivity table has the held-out loss at points of the line between two models. The
barrier of a line is the most that the loss lies above the straight line between its ends
(Entezari et al. 2022, arXiv:2110.06296). Lines between two seeds of one recipe are
the baseline: the barrier of two recipes stands beside that of the seeds of either, or else of all
recipes whose seeds were joined.
Invariant: every line on every data set has a row. Where a point has no loss there is no barrier,
and the reason is said.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from raylab.report.findings.finding import Finding, Sentence
from raylab.report.findings.trained_models import Model, labels_of, models_of
from raylab.report.study_tables import Row, Rows, Tables, grouped

CONNECTED = 0.01
"""Nats per token: up to this barrier two models count as connected; the perplexity is then up to
1 % above that of the straight line."""

DIFFERENCE, SEEDS = "difference", "seeds"
_ENDINGS = {DIFFERENCE: "", SEEDS: "_seeds"}
"""Of messages, by what a line is of."""


def find(tables: Tables) -> Finding:
    """The barrier of every line, and the loss along it."""
    models = {model.name: model for model in models_of(tables)}
    labels = labels_of(list(models.values()))
    lines = grouped(tables["connectivity"], lambda row: (row["a"], row["b"], row["data"]))
    heads = [(_head(rows[0], models, labels), rows) for rows in lines.values()]
    barriers = [{**head, **_barrier(rows)} for head, rows in heads]
    for row in barriers:
        row["seed_barrier"], row["seeds_of"] = _baseline(row, barriers)
    points = [
        {**head, "t": row["t"], "loss": row["loss"], "straight": row["straight"],
         "excess": row["excess"]}
        for head, rows in heads for row in rows
    ]  # fmt: skip
    answer, details = _sentences(barriers)
    frames = {"barriers": barriers, "lines": points}
    return Finding("connectivity", tuple(answer), tuple(details), frames=frames)


def _head(row: Row, models: Mapping[str, Model], labels: Mapping[str, str]) -> dict[str, Any]:
    """What a line is: of two recipes, or of two seeds of one."""
    a, b = models.get(row["a"]), models.get(row["b"])
    names = [labels[m.recipe] if m else row[side] for side, m in (("a", a), ("b", b))]
    are_seeds = bool(a and b and a.recipe == b.recipe)
    seeds = list(dict.fromkeys(model.seed for model in (a, b) if model))
    return {
        "model": row["model"],
        "what": SEEDS if are_seeds else DIFFERENCE,
        "label": names[0] if are_seeds else f"{names[0]} vs {names[1]}",
        "label_a": names[0],
        "label_b": names[1],
        "a": row["a"],
        "b": row["b"],
        "seed": "~".join(map(str, seeds)) or None,
        "data": row["data"],
    }


def _barrier(rows: Rows) -> dict[str, Any]:
    """The barrier of a line, where on it, and the losses of its ends."""
    barrier = rows[0]["barrier"]
    at = None
    if barrier is not None and barrier > 0:
        at = max(rows, key=lambda row: row["excess"])["t"]
    reasons = dict.fromkeys(row["message"] for row in rows if row["message"])
    return {
        "barrier": barrier,
        "at": at,
        "loss_a": rows[0]["loss"],
        "loss_b": rows[-1]["loss"],
        "points": len(rows),
        "message": "; ".join(reasons) or None,
    }


def _baseline(row: Row, barriers: Rows) -> tuple[float | None, str | None]:
    """The largest barrier between two seeds of either recipe of a line of two recipes, or else of
    any recipe, on the same data; and of which recipes."""
    if row["what"] == SEEDS:
        return None, None
    known = [
        other
        for other in barriers
        if other["what"] == SEEDS
        and other["model"] == row["model"]
        and other["data"] == row["data"]
        and other["barrier"] is not None
    ]
    own = [other for other in known if other["label"] in (row["label_a"], row["label_b"])]
    found = own or known
    if not found:
        return None, None
    labels = dict.fromkeys(other["label"] for other in found)
    return max(other["barrier"] for other in found), ", ".join(labels)


def _sentences(barriers: Rows) -> tuple[list[Sentence], list[Sentence]]:
    """The answer for each base model and the details: one sentence for all pairs of recipes (else
    of seeds), and one for each pair; a single pair answers itself."""
    answer: list[Sentence] = []
    details: list[Sentence] = []
    known = [row for row in barriers if row["barrier"] is not None]
    for of_base in grouped(known, lambda row: row["model"]).values():
        by_kind = grouped(of_base, lambda row: row["what"])
        kinds = [what for what in (DIFFERENCE, SEEDS) if what in by_kind]
        pairs = {
            what: list(grouped(by_kind[what], lambda row: row["label"]).values()) for what in kinds
        }
        each = [_sentence(what, rows) for what in kinds for rows in pairs[what]]
        is_single = len(pairs[kinds[0]]) == 1
        answer.append(each.pop(0) if is_single else _summary(kinds[0], pairs[kinds[0]]))
        details += each
    missing = list(_missing_sentences(barriers))
    if answer:
        return answer, details + missing
    return missing or [Sentence("connectivity-nothing")], []


def _missing_sentences(barriers: Rows) -> Iterator[Sentence]:
    """How many lines have no barrier, and why."""
    missing = [row for row in barriers if row["barrier"] is None]
    if missing:
        names = tuple(dict.fromkeys(f"{row['a']}~{row['b']}" for row in missing))
        reasons = tuple(dict.fromkeys(row["message"] for row in missing if row["message"]))
        values = {"count": len(names), "names": names, "reasons": reasons}
        yield Sentence("connectivity-missing", values, "fair")


def _summary(what: str, pairs: Sequence[Rows]) -> Sentence:
    """How many of several pairs are connected, and where the highest barrier lies."""
    every = [row for rows in pairs for row in rows]
    connected = [rows for rows in pairs if max(row["barrier"] for row in rows) <= CONNECTED]
    values = {**_values(what, every), "pairs": len(pairs), "connected": len(connected)}
    verdict = "summary" if values["barrier"] else "all_below"
    return Sentence(f"connectivity-{verdict}{_ENDINGS[what]}", values)


def _sentence(what: str, rows: Sequence[Row]) -> Sentence:
    """On the largest barrier of two recipes, or of the seeds of one, over seeds and data."""
    values = _values(what, rows)
    verdict = "connected" if values["barrier"] <= CONNECTED else "barrier"
    if not values["barrier"]:
        verdict = "below"
    return Sentence(f"connectivity-{verdict}{_ENDINGS[what]}", values)


def _values(what: str, rows: Sequence[Row]) -> dict[str, Any]:
    """The highest barrier of `rows`, and of two recipes that of their seeds."""
    worst = max(rows, key=lambda row: row["barrier"])
    values: dict[str, Any] = {
        "model": worst["model"] or worst["a"],
        "a": worst["label_a"],
        "b": worst["label_b"],
        "barrier": worst["barrier"],
        "data": worst["data"],
        "at": worst["at"],
    }
    if what == DIFFERENCE:
        of_seeds = [row["seed_barrier"] for row in rows if row["seed_barrier"] is not None]
        values["seeds"] = (
            Sentence("connectivity-baseline", {"barrier": max(of_seeds)})
            if of_seeds
            else Sentence("connectivity-no_baseline")
        )
    return values
