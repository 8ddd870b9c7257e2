"""The parts that the table of connectivity is made of: which are wanted, missing, and its rows.

Model: the loss of one point on the held-out answers of one data set is a part. Its key holds the
contents of the models with their shares, the answers, and how the base model is held and framed.
So an end of a line is one part for all lines that meet there, and more points of a line keep
those that are there. The straight line and the barrier are made of parts when rows are.
Invariant: equal keys have equal losses, and no name is in a key. Every point of every line that the
study asks for has a row, with the reason where it has no loss.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cached_property
from typing import Any

import numpy as np

from raylab.cluster.function_parts import how_asked
from raylab.cluster.study_context import StudyContext
from raylab.plan.connectivity import Line, Shares, line_answers
from raylab.spec.data.held_out import Prompts
from raylab.spec.data.rows import rows_fingerprint
from raylab.spec.identity import fingerprint
from raylab.store.parts import Parts
from raylab.store.records import Record, finite_or_none
from raylab.train.evaluate.line_job import LineTask

TABLE = "connectivity"
_FORM = 1
"""To be raised when the same models have other losses than before."""

_NO_LOSS = ("the loss is not finite", "max_length leaves no token of any answer")

Row = dict[str, Any]


@dataclass(frozen=True)
class WantedLines:
    """All lines over one base model. sides: the contents of each model that is there."""

    base: str
    lines: Sequence[Line]
    sides: Mapping[str, str]
    common: str
    held_out: Mapping[str, Prompts] = field(repr=False)
    without: Mapping[str, str] = field(default_factory=dict)
    """Why models take part in no line."""

    def task_of(self, shares: Shares, data: str) -> LineTask:
        """The task of a point. Models of equal contents are one, with the sum of their shares."""
        names: dict[str, str] = {}
        found: dict[str, Fraction] = {}
        for name, share in shares:
            first = names.setdefault(self.sides[name], name)
            found[first] = found.get(first, Fraction(0)) + share
        return LineTask(tuple(found.items()), data)

    def key_of(self, task: LineTask) -> str:
        """The key of the part of a task."""
        point = sorted([self.sides[name], str(share)] for name, share in task.shares)
        return fingerprint({"point": point, "on": self._ids[task.data], "common": self.common})

    def missing(self, parts: Parts) -> tuple[LineTask, ...]:
        """What is to be evaluated, to have all parts that are not in `parts`, each key once."""
        tasks = {
            self.key_of(task): task
            for line in self.lines
            if not self._reason(line)
            for data in self.held_out
            for task in (self.task_of(shares, data) for _, shares in line.steps)
        }
        return tuple(task for key, task in tasks.items() if key not in parts)

    def job_id(self, tasks: Sequence[LineTask]) -> str:
        """The fingerprint of all that decides the results of a job for `tasks`."""
        return fingerprint([self.common, [self.key_of(task) for task in tasks]])

    def add(self, parts: Parts, task: LineTask, found: Mapping[str, Any]) -> None:
        """Add the loss of a task to `parts`, but nothing of one that failed."""
        if found["failed"]:
            return
        tokens, losses = found["tokens"], [float(value) for value in found["losses"]]
        kept = {
            "loss": finite_or_none(mean_loss(losses, sum(tokens))),
            "answers": sum(count > 0 for count in tokens),
            "tokens": sum(tokens),
        }
        parts.add(self.key_of(task), {TABLE: [kept]})

    def rows(self, parts: Parts, failed: Mapping[str, str]) -> Iterator[Row]:
        """The rows of the table, in the order of the study. failed: reasons by key."""
        for line in self.lines:
            for data in self.held_out:
                names = {"model": self.base, "a": line.a.name, "b": line.b.name, "data": data}
                yield from ({**names, **row} for row in self._line_rows(line, data, parts, failed))

    def _line_rows(
        self, line: Line, data: str, parts: Parts, failed: Mapping[str, str]
    ) -> list[Row]:
        reason = self._reason(line)
        rows = []
        for t, shares in line.steps:
            row: Row = {"t": t, "loss": None, "message": reason or None}
            if not reason:
                key = self.key_of(self.task_of(shares, data))
                row |= next(iter(parts.rows(key, TABLE)), {}) | {"t": t}
                if row["loss"] is None:
                    row["message"] = failed.get(key) or _NO_LOSS[row.get("tokens") == 0]
            rows.append(row)
        return with_barrier(rows)

    def _reason(self, line: Line) -> str:
        """Why nothing of a line can be evaluated; empty if it can."""
        reasons = {
            self.without.get(name) or ("" if name in self.sides else f"{name} is not done")
            for name in (line.a.name, line.b.name)
        }
        return "; ".join(sorted(reasons - {""}))

    @cached_property
    def _ids(self) -> dict[str, str]:
        """Fingerprints of the held-out answers by data set."""
        return {name: rows_fingerprint(rows) for name, rows in self.held_out.items()}


def mean_loss(losses: Sequence[float], tokens: int) -> float | None:
    """The sum of the losses of answers over the number of their tokens; None without a token."""
    if not tokens:
        return None
    # math.fsum raises where infinities meet.
    total = math.fsum(losses) if all(map(math.isfinite, losses)) else math.nan
    return total / tokens


def with_barrier(rows: Sequence[Row]) -> list[Row]:
    """The points of a line with `straight`, the value at t of the straight line between the losses
    of its ends; `excess` = loss - straight; and `barrier`, the largest excess, which is 0 at the
    ends. Where an end has no loss there is no straight line, and where any point has none, no
    barrier."""
    first, last = rows[0]["loss"], rows[-1]["loss"]
    found = []
    for row in rows:
        straight = excess = None
        if first is not None and last is not None:
            # Exact at both ends, and everywhere if they are equal.
            straight = float(np.interp(row["t"], [0.0, 1.0], [first, last]))
            excess = None if row["loss"] is None else row["loss"] - straight
        found.append({**row, "straight": straight, "excess": excess})
    known = [row["excess"] for row in found if row["excess"] is not None]
    barrier = max(known) if len(known) == len(found) else None
    return [{**row, "barrier": barrier} for row in found]


def wanted_lines(context: StudyContext, records: Mapping[str, Record]) -> Iterator[WantedLines]:
    """All lines of a study, by base model."""
    study = context.study
    lines = context.lines
    if not lines:
        return
    held_out = line_answers(study, context.inputs.rows)
    contents, left_out = context.contents(records), context.left_out(records)
    whole = "a merge that is a whole model has no adapter"
    merges = {merge.name: whole for merge in context.merges if not merge.is_adapter}
    for base in dict.fromkeys(line.a.base_model for line in lines):
        yield WantedLines(
            base=base,
            lines=[line for line in lines if line.a.base_model == base],
            sides=contents,
            common=fingerprint([_FORM, *how_asked(context, base)]),
            held_out=held_out,
            without=left_out | merges,
        )
