"""Two studies side by side: what was asked differently, which numbers changed, and by how much.

Model: a number is a metric of a trial or a norm of a comparison, found by its name in both
studies. A change is read against the seed:

    times = |one - other| / spread,

the spread being the larger of the two studies' own: the largest minus the smallest over the seeds
of the same recipe (or pair of recipes). Up to 1.25 it is not to be told from the seed, from 2 on
beyond it, as everywhere.
Invariant: every number that either study has is a row: the same bits, changed, or only in one.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from raylab.report.findings.seed_baseline import verdict_of
from raylab.report.findings.statistics import finite
from raylab.report.study_tables import Row, Rows, Tables
from raylab.spec.study import Study

METRICS = (
    "l1", "l2", "train_loss", "eval_loss", "style_rate", "japanese_rate", "stopped_rate",
    "repetition_rate",
)  # fmt: skip
NORMS = ("l1", "l2")
_SEED = re.compile(r"\.s-?\d+(?=~|$)")


@dataclass(frozen=True)
class Asked:
    """A field of the study that differs; None where a study does not say it."""

    field: str
    one: Any
    other: Any


@dataclass(frozen=True)
class Changed:
    """One number in two studies."""

    what: str
    name: str
    metric: str
    one: float | None
    other: float | None
    spread: float | None
    times: float | None
    verdict: str
    """same, only_one, only_other; else within, near, beyond or unknown as against the seed."""


@dataclass(frozen=True)
class Comparison:
    """Both studies' differences."""

    asked: tuple[Asked, ...]
    numbers: tuple[Changed, ...]

    @property
    def document(self) -> dict[str, Any]:
        """The same as JSON holds it."""
        return {
            "asked": [asdict(row) for row in self.asked],
            "numbers": [asdict(row) for row in self.numbers],
        }


def compare(one: tuple[Study, Tables], other: tuple[Study, Tables]) -> Comparison:
    """Two studies with their tables."""
    return Comparison(tuple(_asked(one[0], other[0])), tuple(_numbers(one[1], other[1])))


def _asked(one: Study, other: Study) -> Iterator[Asked]:
    left, right = (dict(_flat(study.model_dump(mode="json"))) for study in (one, other))
    for field in dict.fromkeys([*left, *right]):
        if left.get(field) != right.get(field):
            yield Asked(field, left.get(field), right.get(field))


def _flat(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping) and value:
        for key, item in value.items():
            yield from _flat(item, f"{path}.{key}" if path else str(key))
    elif value is not None:
        yield path, value


def _numbers(one: Tables, other: Tables) -> Iterator[Changed]:
    for what, key, metrics, rows in _SUBJECTS:
        left, right = ({row[key]: row for row in rows(tables)} for tables in (one, other))
        for metric in metrics:
            yield from _of_metric(what, metric, left, right)


_SUBJECTS: tuple[tuple[str, str, Sequence[str], Callable[[Tables], Rows]], ...] = (
    ("trial", "name", METRICS, lambda tables: tables["trials"]),
    ("comparison", "comparison", NORMS, lambda tables: tables.norms()),
)


def _of_metric(
    what: str, metric: str, left: Mapping[str, Row], right: Mapping[str, Row]
) -> Iterator[Changed]:
    spreads = [_spreads(found, metric) for found in (left, right)]
    for name in dict.fromkeys([*left, *right]):
        one, other = _value(left, name, metric), _value(right, name, metric)
        if one is None and other is None:
            continue
        stem = _SEED.sub("", name)
        known = [found[stem] for found in spreads if stem in found]
        yield _changed(what, name, metric, one, other, max(known, default=None))


def _value(rows: Mapping[str, Row], name: str, metric: str) -> float | None:
    return finite(rows[name][metric]) if name in rows else None


def _spreads(rows: Mapping[str, Row], metric: str) -> dict[str, float]:
    """By name without seeds: the largest minus the smallest; nothing where there is one seed."""
    found: dict[str, list[float]] = {}
    for name in rows:
        value = _value(rows, name, metric)
        if value is not None:
            found.setdefault(_SEED.sub("", name), []).append(value)
    return {stem: max(v) - min(v) for stem, v in found.items() if len(v) > 1}


def _changed(
    what: str,
    name: str,
    metric: str,
    one: float | None,
    other: float | None,
    spread: float | None,
) -> Changed:
    if one is None or other is None:
        verdict = "only_one" if other is None else "only_other"
        return Changed(what, name, metric, one, other, spread, None, verdict)
    if one == other:
        return Changed(what, name, metric, one, other, spread, 0.0, "same")
    change = abs(one - other)
    if spread == 0:
        # All seeds of each study agree: any change is more than the seed makes.
        return Changed(what, name, metric, one, other, spread, None, "beyond")
    times = None if spread is None else change / spread
    return Changed(what, name, metric, one, other, spread, times, verdict_of(times))


def counted(numbers: Sequence[Changed]) -> dict[str, int]:
    """How many numbers have each verdict."""
    found: dict[str, int] = {}
    for row in numbers:
        found[row.verdict] = found.get(row.verdict, 0) + 1
    return found
