"""Two studies side by side: settings that differ, numbers that changed, and by how much.

Model: a number is a metric of a trial or a norm of a comparison, found by its name in both
studies. A change is read against the seed baseline:

    times = |one - other| / spread,

the spread being the larger of the two studies' own: the largest minus the smallest over the seeds
of the same recipe (or pair of recipes). Up to 1.25 it is within the seed baseline, from 2 on
beyond it, as in `raylab.report.seed_noise`.
Invariant: every number that either study has is a row: the same bits, changed, or only in one.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from raylab.report.seed_noise import verdict_of
from raylab.report.study_tables import Rows, Tables, finite, grouped
from raylab.spec.seeds import SUFFIX
from raylab.spec.study import Study
from raylab.spec.study_file import study_values
from raylab.spec.swept_names import by_value

METRICS = (
    "l1", "l2", "train_loss", "eval_loss", "style_rate", "japanese_rate", "stopped_rate",
    "repetition_rate",
)  # fmt: skip
NORMS = ("l1", "l2")
_SEED = re.compile(rf"{SUFFIX}(?=~|$)")


@dataclass(frozen=True)
class FieldChange:
    """A field of the study that differs; None where a study does not set it."""

    field: str
    one: Any
    other: Any


@dataclass(frozen=True)
class NumberChange:
    """One number in two studies.

    `verdict` is same, only_one or only_other; else within, near, beyond or unknown, by `times`.
    """

    what: str
    name: str
    metric: str
    one: float | None
    other: float | None
    spread: float | None
    times: float | None
    verdict: str


@dataclass(frozen=True)
class Comparison:
    """The differences of two studies."""

    asked: tuple[FieldChange, ...]
    numbers: tuple[NumberChange, ...]

    @property
    def document(self) -> dict[str, Any]:
        """The comparison as JSON holds it."""
        return {
            "asked": [asdict(row) for row in self.asked],
            "numbers": [asdict(row) for row in self.numbers],
        }


def compare(one: tuple[Study, Tables], other: tuple[Study, Tables]) -> Comparison:
    """Compare two studies, each with its tables."""
    changes = tuple(_field_changes(study_values(one[0]), study_values(other[0])))
    both = one[1], other[1]
    trials = ("trial", "name", METRICS, [tables["trials"] for tables in both])
    norms = ("comparison", "comparison", NORMS, [tables.norms() for tables in both])
    numbers: list[NumberChange] = []
    for what, key, metrics, (rows, others) in (trials, norms):
        for metric in metrics:
            numbers += _number_changes(what, metric, _values(rows, key, metric),
                                       _values(others, key, metric))  # fmt: skip
    return Comparison(changes, tuple(numbers))


def _field_changes(one: Any, other: Any, path: str = "") -> Iterator[FieldChange]:
    """The fields that differ; what only one study has is one field, without its empty parts."""
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        for key in dict.fromkeys([*one, *other]):
            below = f"{path}.{key}" if path else str(key)
            yield from _field_changes(one.get(key), other.get(key), below)
        return
    left, right = _without_empty(one), _without_empty(other)
    if left != right:
        yield FieldChange(path, left, right)


def _without_empty(value: Any) -> Any:
    """A value without fields that are not set; None for an empty mapping."""
    if not isinstance(value, Mapping):
        return value
    kept = {key: _without_empty(item) for key, item in value.items()}
    return {key: item for key, item in kept.items() if item is not None} or None


def _values(rows: Rows, key: str, metric: str) -> dict[str, float | None]:
    """By the name of the trial or comparison: the metric, None where it was not measured."""
    return {row[key]: finite(row[metric]) for row in rows}


def _named_alike(
    left: Mapping[str, float | None], right: Mapping[str, float | None]
) -> Mapping[str, float | None]:
    """`right` under the names of `left`, whose swept values may be spelled otherwise."""
    names = {by_value(name): name for name in left}
    return {names.get(by_value(name), name): value for name, value in right.items()}


def _number_changes(
    what: str, metric: str, left: Mapping[str, float | None], right: Mapping[str, float | None]
) -> Iterator[NumberChange]:
    """One metric of every trial or comparison that has it in either study."""
    right = _named_alike(left, right)
    spreads = _spreads(left), _spreads(right)
    for name in dict.fromkeys([*left, *right]):
        one, other = left.get(name), right.get(name)
        if one is None and other is None:
            continue
        recipe = _SEED.sub("", name)
        known = [spread[recipe] for spread in spreads if recipe in spread]
        spread, times = max(known, default=None), None
        if one is None or other is None:
            verdict = "only_one" if other is None else "only_other"
        elif one == other:
            times, verdict = 0.0, "same"
        elif spread == 0:
            # All seeds of each study agree: any change is more than the seed makes.
            verdict = "beyond"
        else:
            times = None if spread is None else abs(one - other) / spread
            verdict = verdict_of(times)
        yield NumberChange(what, name, metric, one, other, spread, times, verdict)


def _spreads(values: Mapping[str, float | None]) -> dict[str, float]:
    """By name without seeds: the largest minus the smallest; nothing where there is one seed."""
    known = ((name, value) for name, value in values.items() if value is not None)
    groups = grouped(known, lambda item: _SEED.sub("", item[0]))
    numbers = {recipe: [value for _, value in of] for recipe, of in groups.items()}
    return {recipe: max(v) - min(v) for recipe, v in numbers.items() if len(v) > 1}
