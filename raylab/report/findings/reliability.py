"""How far the numbers can be trusted: precision, marked models, failures, what was counted.

Model: the audit says how much of a task vector a checkpoint in the base model's dtype would lose
(merged) and how much 4-bit weights hide (dequantized); trials that are not done and models that
are marked are counted; the comparisons of one base model should be over equally many entries.
Invariant: every trial is counted once, by its status; merges are none.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from raylab.report.findings.finding import Finding, Sentence, Tables, finite
from raylab.report.findings.seed_tables import is_merge
from raylab.report.findings.trained_models import labels_of, models_of

_LARGE = 0.1
_AUDIT = (
    "numel",
    "l2",
    "merged_error",
    "merged_false_zeros",
    "dequantized_error",
    "dequantized_false_zeros",
    "quantization_noise",
)


def trust(tables: Tables) -> Finding:
    """The audit of every model, and what the study lacks."""
    audit = list(_audit_rows(tables))
    counted = list(_counted_rows(tables))
    said = (*_trial_sentences(tables), *_audit_sentences(audit), *_counted_sentences(counted))
    headline = tuple(sentence for sentence in said if sentence.grade == "bad")
    rest = tuple(sentence for sentence in said if sentence not in headline)
    return Finding("trust", headline, rest, (), {"audit": audit, "counted": counted})


def _audit_rows(tables: Tables) -> Iterator[dict[str, Any]]:
    models = {model.name: model for model in models_of(tables)}
    labels = labels_of(list(models.values()))
    for row in tables.rows("audit", level="all"):
        model = models.get(row["model"])
        label = labels[model.stem] if model else row["model"]
        head = {"name": row["model"], "label": label, "seed": model.seed if model else None}
        yield {**head, **{key: row[key] for key in _AUDIT}}


def _counted_rows(tables: Tables) -> Iterator[dict[str, Any]]:
    """How many comparisons are over how many entries."""
    bases = {row["name"]: row["model"] for row in tables["trials"]}
    found = Counter(
        (bases.get(row["a"]) or bases.get(row["b"]) or row["b"], row["universe"], row["numel"])
        for row in tables.norms()
    )
    for (model, universe, numel), count in found.items():
        yield {"model": model, "universe": universe, "numel": numel, "comparisons": count}


def _trial_sentences(tables: Tables) -> Iterator[Sentence]:
    trials = [row for row in tables["trials"] if not is_merge(row)]
    statuses = Counter(str(row["status"]) for row in trials)
    total = statuses.total()
    undone = total - statuses["done"]
    if undone:
        values = {"total": total, "undone": undone, "failed": statuses["failed"],
                  "blocked": statuses["blocked"]}  # fmt: skip
        yield Sentence("trust.undone", values, "bad")
    elif total:
        yield Sentence("trust.done", {"total": total}, "good")
    marked = [row["name"] for row in tables["trials"] if row["marked"]]
    if marked:
        found = {"count": len(marked), "total": len(tables["trials"]), "names": tuple(marked)}
        yield Sentence("trust.marked", found, "fair")


def _audit_sentences(audit: Sequence[Mapping[str, Any]]) -> Iterator[Sentence]:
    for kind in ("merged", "dequantized"):
        rows = [row for row in audit if finite(row[f"{kind}_error"]) is not None]
        if rows:
            errors = [row[f"{kind}_error"] for row in rows]
            zeros = [row[f"{kind}_false_zeros"] or 0.0 for row in rows]
            values = {"count": len(rows), "low": min(errors), "high": max(errors),
                      "zeros": max(zeros)}  # fmt: skip
            yield Sentence(f"trust.{kind}", values, "fair" if max(errors) > _LARGE else "good")


def _counted_sentences(counted: Sequence[Mapping[str, Any]]) -> Iterator[Sentence]:
    for model in dict.fromkeys(row["model"] for row in counted):
        mine = [row for row in counted if row["model"] == model]
        if len(mine) == 1:
            yield Sentence("trust.counted", mine[0], "good")
        else:
            sizes = [row["numel"] for row in mine]
            values = {"model": model, "low": min(sizes), "high": max(sizes),
                      "comparisons": sum(row["comparisons"] for row in mine)}  # fmt: skip
            yield Sentence("trust.unequal", values, "fair")
