"""The rows of the table of comparisons: which are done, and why others are not.

Invariant: there is one row for every planned comparison, in the order of the plan.
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
    """The rows of the comparisons table.

    A comparison is `blocked` if a side is `missing` (not done), or is in `left_out`: the marked
    models that the study leaves out, with the reason. Otherwise it is `done`.
    """
    rows = []
    for item in comparisons:
        sides = (item.a.name, item.b.name)
        reasons = [f"{name} is not done" for name in sides if name in missing]
        reasons += [
            f"left out: {name} is marked ({left_out[name]})" for name in sides if name in left_out
        ]
        rows.append(
            {
                "comparison": item.name,
                "a": item.a.name,
                "b": item.b.name,
                "form": item.form,
                "status": "blocked" if reasons else "done",
                "message": "; ".join(reasons) or None,
            }
        )
    return rows
