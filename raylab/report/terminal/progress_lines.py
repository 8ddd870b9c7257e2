"""What is said of trials while a study runs, in plain words; a line for each thing that happened.

Model: a row is as in `raylab.report.terminal.live_table`. A line is the count of trials that are
done, the trial's name, and words for what became of it, made of its row alone. News that is
passing (how far a training is) is left out where a table shows it.
Invariant: numbers are those that the trial reported.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from raylab.report.terminal.live_table import totals

Row = Mapping[str, Any]


def line(row: Row, words: str, done: int, total: int) -> str:
    """One line: [ 3/22] name  words."""
    return f"[{done:>{len(str(total))}}/{total}] {row['name']}  {words}"


def started(row: Row) -> str:
    """It has a worker; for the first time, or after what ended its last attempt."""
    if (row.get("attempt") or 1) == 1:
        return "starts"
    after = f" after {row['cause']}" if row.get("cause") else ""
    return f"starts again{after}, attempt {row['attempt']}"


def moved(row: Row) -> str:
    """How far it is."""
    parts = {
        "loss": "loss {:.4g}",
        "tokens_per_second": "{:.0f} tokens/s",
        "seconds_left": "{:.0f} s left",
    }
    known = [form.format(row[key]) for key, form in parts.items() if row.get(key) is not None]
    return "  ".join([f"step {row['step']}/{row['steps']}", *known])


def ended(row: Row) -> str:
    """It is done, or failed, or was stopped, or will never start."""
    if row["status"] == "done":
        seconds, l2 = row.get("seconds") or 0.0, row.get("l2")
        return f"done in {seconds:.1f} s  L2 {float('nan') if l2 is None else l2:.4g}"
    if row["status"] == "pending":
        return "stopped; it goes on from its checkpoint"
    if row["status"] == "blocked":
        return str(row.get("message") or "blocked")
    why = f": {row['cause']}" if row.get("cause") else ""
    return f"failed{why}; the trial table says why"


def news(before: Sequence[Row], after: Sequence[Row]) -> Iterator[tuple[str, bool]]:
    """(line, whether it is passing) for all that happened between two looks at the store."""
    old = {row["name"]: row for row in before}
    if not before:
        yield totals(after), False
    done = sum(row["status"] == "done" for row in after)
    for row in after:
        seen = old.get(row["name"])
        for words, passing in _changes(seen, row):
            yield line(row, words, done, len(after)), passing


def _changes(seen: Row | None, row: Row) -> Iterator[tuple[str, bool]]:
    changed = seen is not None and seen["status"] != row["status"]
    if changed and row["status"] in ("done", "failed", "blocked"):
        yield ended(row), False
    was = None if seen is None or seen["status"] != "running" else seen.get("step")
    if row["status"] == "running" and row.get("step") not in (None, was):
        yield moved(row), True
