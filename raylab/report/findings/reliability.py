"""How reliable the numbers are: precision, marked models, failures, entries compared.

Model: the audit gives how much of a task vector a checkpoint in the base model's dtype would lose
(merged) and how much 4-bit weights hide (dequantized); trials that are not done and models that
are marked are counted; the comparisons of one base model should be over equally many entries.
Invariant: every trial is counted once, by its status; a merge is no trial. Finished models that are
asked count among those that may be marked.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

from raylab.report.findings.finding import Finding, Grade, Sentence
from raylab.report.findings.trained_models import labels_of, models_of
from raylab.report.study_tables import Rows, Tables, finite, grouped, marked_models
from raylab.spec.merge_methods import is_merge

LARGE_ERROR = 0.1
"""The share of a task vector's norm above which an error is not graded good."""
CAUTIONS = ("trust-none_done", "trust-undone", "trust-marked", "trust-unequal")
"""The sentences that limit the results of the whole study."""
_AUDIT = (
    "numel", "l2", "merged_error", "merged_false_zeros", "dequantized_error",
    "dequantized_false_zeros", "quantization_noise",
)  # fmt: skip


def find(tables: Tables) -> Finding:
    """The audit of every model, and which results the study lacks."""
    models = {model.name: model for model in models_of(tables)}
    labels = labels_of(list(models.values()))
    audit: list[dict[str, Any]] = []
    for row in tables.rows("audit", level="all"):
        model = models.get(row["model"])
        label = labels[model.recipe] if model else row["model"]
        head = {"name": row["model"], "label": label, "seed": model.seed.level if model else None}
        audit.append({**head, **{column: row[column] for column in _AUDIT}})
    bases = {row["name"]: row["model"] for row in tables["trials"]}
    counts = Counter(
        (bases.get(row["a"]) or bases.get(row["b"]) or row["b"], row["universe"], row["numel"])
        for row in tables.norms()
    )
    counted = [
        {"model": model, "universe": universe, "numel": numel, "comparisons": comparisons}
        for (model, universe, numel), comparisons in counts.items()
    ]
    found = (
        *_trial_sentences(tables["trials"]),
        *_marked_sentences(tables),
        *_audit_sentences(audit),
        *_counted_sentences(counted),
    )
    cautions = [sentence for sentence in found if sentence.key in CAUTIONS]
    rest = [sentence for sentence in found if sentence.key not in CAUTIONS]
    frames = {"audit": audit, "counted": counted}
    return Finding("trust", tuple(rest[:2]), tuple(rest[2:]), tuple(cautions), frames)


def _trial_sentences(trials: Rows) -> Iterator[Sentence]:
    statuses = Counter(str(row["status"]) for row in trials if not is_merge(row))
    total = statuses.total()
    undone = total - statuses["done"]
    if undone:
        values = {"total": total, "undone": undone, "failed": statuses["failed"],
                  "blocked": statuses["blocked"]}  # fmt: skip
        yield Sentence("trust-undone" if statuses["done"] else "trust-none_done", values, "bad")
    elif total:
        yield Sentence("trust-done", {"total": total}, "good")


def _marked_sentences(tables: Tables) -> Iterator[Sentence]:
    if marked := tuple(marked_models(tables)):
        done = {row["name"] for row in tables["trials"] if row["status"] == "done"}
        asked = done | {row["name"] for row in tables["rates"]}
        named = {"count": len(marked), "total": len(asked), "names": marked}
        yield Sentence("trust-marked", named, "fair")


def _audit_sentences(audit: Rows) -> Iterator[Sentence]:
    for kind in ("merged", "dequantized"):
        rows = [row for row in audit if finite(row[f"{kind}_error"]) is not None]
        if rows:
            errors = [row[f"{kind}_error"] for row in rows]
            zeros = [row[f"{kind}_false_zeros"] or 0.0 for row in rows]
            values = {"count": len(rows), "low": min(errors), "high": max(errors),
                      "zeros": max(zeros)}  # fmt: skip
            grade: Grade = "fair" if max(errors) > LARGE_ERROR else "good"
            yield Sentence(f"trust-{kind}", values, grade)


def _counted_sentences(counted: Rows) -> Iterator[Sentence]:
    for model, rows in grouped(counted, lambda row: row["model"]).items():
        if len(rows) == 1:
            yield Sentence("trust-counted", rows[0], "good")
        else:
            sizes = [row["numel"] for row in rows]
            values = {"model": model, "low": min(sizes), "high": max(sizes),
                      "comparisons": sum(row["comparisons"] for row in rows)}  # fmt: skip
            yield Sentence("trust-unequal", values, "fair")
