"""The numbers of merges and their parents: losses, rates, what was kept; one row each.

Model: `MergeMeasures` looks up what tables say of a model on a data set; a row is a merge and one
of its parents, the mean over the seeds. `raylab.report.findings.merges` defines the numbers.
Invariant: a mean is over the seeds at which all of its values are known. What was not measured is
None.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from raylab.report.findings.statistics import mean
from raylab.report.findings.trained_models import labels_of, models_of
from raylab.report.study_merges import Parent, StudyMerge
from raylab.report.study_tables import VIEW, Row, Rows, Tables, finite, grouped

RATES = ("style_rate", "japanese_rate", "stopped_rate", "repetition_rate")
SIDES = ("", "_parent", "_others")
"""Of the columns of a rate: those of the merge, of this parent, of the other parents."""
GAIN = 0.01
"""Nats a token: a parent that is no better than this on its own data has no gain to keep."""
STYLE = 0.1
"""A parent whose style is no further from that of the others has no style to keep."""


@dataclass(frozen=True)
class MergeMeasures:
    """What the tables say of models on data sets, by the names of both."""

    tables: Tables

    @cached_property
    def done(self) -> Mapping[str, Row]:
        """The finished trials and merges by name."""
        return {r["name"]: r for r in self.tables["trials"] if r["status"] == "done"}

    @cached_property
    def labels(self) -> Mapping[str, str]:
        """The short name of each recipe."""
        return labels_of(models_of(self.tables))

    @cached_property
    def _likelihoods(self) -> Mapping[tuple[str, str], Row]:
        return {(row["name"], row["data"]): row for row in self.tables["likelihoods"]}

    @cached_property
    def _rates(self) -> Mapping[tuple[str, str], Row]:
        rows = self.tables["rates_by_data"]
        return {(r["name"], r["data"]): r for r in rows if r["answers"] == "greedy"}

    @cached_property
    def kept(self) -> Mapping[tuple[str, str], Rows]:
        """Of whole models, by merge and parent: a row for each density, the smallest first."""
        rows = sorted(
            self.tables.rows("kept_of", view=VIEW, level="all"), key=lambda row: row["density"]
        )
        return grouped(rows, lambda row: (row["merge"], row["parent"]))

    def loss(self, name: str, parts: Sequence[str]) -> float | None:
        """The held-out loss of a model on data sets together, by tokens."""
        rows = [self._likelihoods.get((name, part)) for part in parts]
        known = [row for row in rows if row and finite(row["log_probability"]) is not None]
        tokens = sum(row["tokens"] for row in known)
        if not parts or len(known) < len(parts) or not tokens:
            return None
        return -math.fsum(row["tokens"] * row["log_probability"] for row in known) / tokens

    def rates(self, name: str, data: str, prompts_of: str) -> Row:
        """The rates of a model on the prompts of a data set. A store that is older has them for the
        model's own prompts alone, those of the data set `prompts_of`."""
        found = self._rates.get((name, data))
        if found is None and data == prompts_of:
            found = self.done.get(name)
        return found or {}

    @property
    def counts(self) -> list[int]:
        """The numbers of prompts that rates rest on."""
        names = {m.name for m in self.tables.merges if m.name in self.done}
        return [r["count"] for (name, _), r in self._rates.items() if name in names and r["count"]]


def at_all_seeds(merges: Sequence[StudyMerge]) -> list[list[StudyMerge]]:
    """The merges of one name in the study and point, one for each seed."""
    return list(grouped(merges, lambda merge: merge.label).values())


def merge_rows(
    measured: MergeMeasures, base: str, merges: Sequence[StudyMerge]
) -> Iterator[dict[str, Any]]:
    """A row for each parent of one merge at all seeds; `first` is the merge of the first seed."""
    first = merges[0]
    for place, parent in enumerate(first.parents):
        each = [_one(measured, merge, merge.parents[place]) for merge in merges]
        yield {
            "model": base,
            "merge": first.label,
            "parent": measured.labels.get(parent.recipe, parent.recipe),
            "data": parent.data,
            "seeds": len(merges),
            **_means(each, ("loss", "loss_parent", "loss_others", "gain_kept")),
            "gain_spread": _spread([row["gain_kept"] for row in each]),
            **_means(each, _sides("style_rate")),
            **_means(each, ("style_kept",)),
            **{k: v for name in RATES[1:] for k, v in _means(each, _sides(name)).items()},
            **_means(each, ("cosine",)),
            **_means(each, ("density", "survived_share", "zero_share")),
            "first": first,
        }


def _sides(rate: str) -> list[str]:
    return [f"{rate}{side}" for side in SIDES]


def _means(rows: Rows, names: Sequence[str]) -> dict[str, float | None]:
    """The means of columns over the rows in which all that any row has are known."""
    asked = [name for name in names if any(row[name] is not None for row in rows)]
    known = [row for row in rows if all(row[name] is not None for name in asked)]
    return {n: mean([row[n] for row in known]) if n in asked and known else None for n in names}


def _spread(values: Sequence[float | None]) -> float | None:
    """The largest of several seeds less the smallest; None where fewer than two are known."""
    known = [value for value in values if value is not None]
    return max(known) - min(known) if len(known) > 1 else None


def _one(measured: MergeMeasures, merge: StudyMerge, parent: Parent) -> dict[str, Any]:
    """One merge at one seed and one of its parents, on the data of this parent."""
    others = [other for other in merge.parents if other != parent]
    loss, own = (measured.loss(name, parent.parts) for name in (merge.name, parent.name))
    other = _mean_of_all([measured.loss(p.name, parent.parts) for p in others])
    of_merge = measured.rates(merge.name, parent.data, merge.prompts_of)
    of_parent = measured.rates(parent.name, parent.data, parent.data)
    of_others = [measured.rates(p.name, parent.data, p.data) for p in others]
    rates = {
        name: (
            finite(of_merge.get(name)),
            finite(of_parent.get(name)),
            _mean_of_all([finite(found.get(name)) for found in of_others]),
        )
        for name in RATES
    }
    (kept, *_) = measured.kept.get((merge.name, parent.name)) or [{}]
    return {
        "loss": loss,
        "loss_parent": own,
        "loss_others": other,
        "gain_kept": _kept(loss, own, other, GAIN) if (other or 0) > (own or 0) else None,
        **{f"{n}{side}": v for n, of in rates.items() for side, v in zip(SIDES, of, strict=True)},
        "style_kept": _kept(*rates["style_rate"], STYLE),
        "cosine": finite(kept.get("cosine")),
        **_survived(kept),
    }


def _mean_of_all(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return mean(known) if len(known) == len(values) else None


def _kept(
    value: float | None, own: float | None, other: float | None, least: float
) -> float | None:
    """How far `value` lies on the way from the other parents to the parent; None where these are
    no more than `least` apart."""
    if value is None or own is None or other is None or abs(other - own) <= least:
        return None
    return (other - value) / (other - own)


def _survived(kept: Row) -> dict[str, Any]:
    largest = kept.get("largest")
    return {
        "density": kept.get("density"),
        "survived_share": finite(kept.get("survived_share")),
        "zero_share": kept["zero"] / largest if largest else None,
    }


def sign_rows(
    measured: MergeMeasures, base: str, merges: Sequence[StudyMerge]
) -> Iterator[dict[str, Any]]:
    """The largest entries whose sign survived, of each parent of one merge at each density."""
    first = merges[0]
    for place, parent in enumerate(first.parents):
        rows = [
            row
            for merge in merges
            for row in measured.kept.get((merge.name, merge.parents[place].name), ())
        ]
        for density, of_density in grouped(rows, lambda row: float(row["density"])).items():
            each = [{**_survived(row), "cosine": finite(row["cosine"])} for row in of_density]
            yield {
                "model": base,
                "merge": first.label,
                "parent": measured.labels.get(parent.recipe, parent.recipe),
                "density": density,
                **_means(each, ("survived_share", "zero_share")),
                **_means(each, ("cosine",)),
                "seeds": len(of_density),
            }


def without_point(row: Row) -> dict[str, Any]:
    """A row of plain values."""
    return {key: value for key, value in row.items() if key != "first"}


def curve_rows(rows: Rows) -> Iterator[dict[str, Any]]:
    """The rows of sweeps, once for each setting that has several values which are numbers."""
    for of_merge in grouped(rows, lambda row: row["first"].merge).values():
        points = [row["first"].point for row in of_merge]
        for setting in points[0]:
            values = {_number(point[setting]) for point in points}
            if len(values) < 2 or None in values:
                continue
            ordered = sorted(of_merge, key=lambda row: float(row["first"].point[setting]))
            for row in ordered:
                first: StudyMerge = row["first"]
                yield {
                    "model": row["model"],
                    "sweep": first.merge,
                    "setting": setting,
                    "value": float(first.point[setting]),
                    "curve": first.label_without(setting),
                    **{k: v for k, v in row.items() if k not in ("model", "merge", "first")},
                }


def _number(value: object) -> float | None:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if is_number else None  # type: ignore[arg-type]
