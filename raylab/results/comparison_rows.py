"""What becomes of every comparison: measured, or why not.

Model: a comparison is `blocked` while a side of it is not done, and where the study leaves marked
models out and a side of it is marked; else it is `done`.
Invariant: one row for every planned comparison, in the order of the study, whatever became of it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from raylab.plan.comparisons import PlannedComparison


def comparison_rows(
    comparisons: Sequence[PlannedComparison],
    missing: Collection[str],
    left_out: Mapping[str, str],
) -> list[dict[str, Any]]:
    """The rows of the comparisons table. missing: models that are not done; left_out: what
    models are marked for that the study leaves out."""
    return [
        {
            "comparison": item.name,
            "a": item.a.name,
            "b": item.b.name,
            "form": item.form,
            **_outcome(item, missing, left_out),
        }
        for item in comparisons
    ]


def _outcome(
    item: PlannedComparison, missing: Collection[str], left_out: Mapping[str, str]
) -> dict[str, str | None]:
    sides = (item.a.name, item.b.name)
    undone = [f"{name} is not done" for name in sides if name in missing]
    marked = [
        f"left out: {name} is marked ({left_out[name]})" for name in sides if name in left_out
    ]
    why = "; ".join([*undone, *marked])
    return {"status": "blocked" if why else "done", "message": why or None}
