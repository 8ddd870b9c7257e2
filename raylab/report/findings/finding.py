"""What tables say about one question, before any words.

Model: a finding is a function of a study's tables. Its sentences are keys with values, which
`raylab.report.words` says in a language; its frames are tables of plain values, from which every
number of its sentences, grids and figures is taken.
Invariant: nothing is read, written or drawn here; the same tables give the same findings. What
was not measured is None, never zero, and what a finding cannot say it says it cannot.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from raylab.report.findings.seed_tables import VIEW, Row, Rows
from raylab.report.findings.settings import Settings
from raylab.store.schemas import SCHEMAS
from raylab.store.tables import rows_of, to_table

Grade = Literal["", "good", "fair", "bad", "unknown"]
FACTORS = ("method", "data", "learning_rate", "parent", "seed")


@dataclass(frozen=True)
class Sentence:
    """One statement: the key of its words, the values in them, and how good it is.

    `head` is the key of what it is about, where that stands before it; a value may be a sentence.
    """

    key: str
    values: Mapping[str, Any] = field(default_factory=dict)
    grade: Grade = ""
    head: str = ""


@dataclass(frozen=True)
class Finding:
    """The answer to one question.

    `headline` is for the first screen, `sentences` for the section, `caveats` for what the
    answer rests on; `frames` are its numbers, rows by table.
    """

    key: str
    headline: tuple[Sentence, ...] = ()
    sentences: tuple[Sentence, ...] = ()
    caveats: tuple[Sentence, ...] = ()
    frames: Mapping[str, Rows] = field(default_factory=dict)


class Tables(Mapping[str, Rows]):
    """The tables of a study: rows by name, or a selection of them.

    A column is selected before rows are made of it, so that a table of a million rows costs
    no more than what is asked of it.
    """

    def __init__(self, arrow: Mapping[str, pa.Table], settings: Settings | None = None) -> None:
        """Hold Arrow tables by name; one that is missing has no rows.

        `settings` are those of the study's variants, where the study is at hand.
        """
        self._arrow, self.settings = dict(arrow), dict(settings or {})
        self._rows: dict[tuple[Any, ...], Rows] = {}

    @classmethod
    def of(cls, rows: Mapping[str, Iterable[Row]], settings: Settings | None = None) -> Tables:
        """The same, of rows by name."""
        return cls({name: to_table(name, found) for name, found in rows.items()}, settings)

    def __getitem__(self, name: str) -> Rows:
        return self.rows(name)

    def __iter__(self) -> Iterator[str]:
        return iter(SCHEMAS)

    def __len__(self) -> int:
        return len(SCHEMAS)

    def arrow(self, name: str, **equal: str) -> pa.Table:
        """The Arrow table `name`, cut to the rows whose columns equal the values given."""
        table = self._arrow.get(name)
        if table is None:
            return to_table(name, [])
        for column, value in equal.items():
            table = table.filter(pc.equal(table.column(column), value))
        return table

    def rows(self, name: str, **equal: str) -> Rows:
        """The same as rows."""
        key = (name, *sorted(equal.items()))
        if key not in self._rows:
            self._rows[key] = rows_of(self.arrow(name, **equal))
        return self._rows[key]

    def norms(self, level: str = "all") -> Rows:
        """The norms of deltas at `level`."""
        return self.rows("norms", view=VIEW, level=level)


def finite(value: Any) -> float | None:
    """The value, or None where it is not a number."""
    return float(value) if value is not None and math.isfinite(value) else None


def mean(values: Sequence[float]) -> float | None:
    """The arithmetic mean, summed exactly; None of nothing."""
    return math.fsum(values) / len(values) if values else None


def deviation(values: Sequence[float]) -> float | None:
    """The sample standard deviation (n - 1 in the denominator); None below three values."""
    if len(values) < 3:
        return None
    return float(np.std(np.asarray(values, np.float64), ddof=1))


def over(value: float | None, whole: float | None) -> float | None:
    """The value over the whole; None where either was not measured, or the whole is zero."""
    return value / whole if value is not None and whole else None
