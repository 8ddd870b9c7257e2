"""Which models are marked: what their answers fell short of, in words.

Model: a limit of the study is a row of BOUNDS: a rate, and whether the limit is the least or the
most that it may be. A limit that the data's own answers to the same prompts break is not applied.
Invariant: a function of what the record keeps and of the study's limits: other limits mark other
models, and nothing is asked again.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from raylab.plan.merges import Planned
from raylab.spec.evaluation import Limits
from raylab.store.records import Record

_MOST_OF_EXAMPLE = 60


class _Bound(NamedTuple):
    words: str
    is_least: bool

    def breaks(self, value: float | None, limit: float) -> bool:
        """Whether `value` is on the wrong side of `limit`."""
        return value is not None and (value < limit if self.is_least else value > limit)


BOUNDS: dict[str, _Bound] = {
    "japanese_rate": _Bound("answers in Japanese", True),
    "stopped_rate": _Bound("answers that end by themselves", True),
    "repetition_rate": _Bound("answers that repeat themselves", False),
    "distinct_rate": _Bound("distinct answers", True),
    "style_rate": _Bound("answers in style", True),
}


def is_asked(metrics: Mapping[str, Any]) -> bool:
    """Whether a model has answered anything."""
    return any(metrics.get(rate) is not None for rate in BOUNDS)


def broken_limits(metrics: Mapping[str, Any], limits: Limits) -> dict[str, str]:
    """What a model is marked for, by rate: its value and the limit."""
    expected = metrics.get("answers", {}).get("expected", {})
    found = {}
    for rate, bound in BOUNDS.items():
        limit, value = getattr(limits, rate), metrics.get(rate)
        if limit is None or not bound.breaks(value, limit):
            continue
        if not bound.breaks(expected.get(rate), limit):
            side = "at least" if bound.is_least else "at most"
            found[rate] = f"{bound.words}: {_percent(value)}, {side} {_percent(limit)} asked"
    return found


def flag_columns(metrics: Mapping[str, Any], limits: Limits) -> dict[str, Any]:
    """`marked` and `marks`, the latter with an example answer for each; None where not asked."""
    if not is_asked(metrics):
        return {"marked": None, "marks": None}
    excerpts, found = metrics.get("excerpts", {}), broken_limits(metrics, limits)
    said = (words + _example(excerpts.get(rate)) for rate, words in found.items())
    return {"marked": bool(found), "marks": "; ".join(said) or None}


def flagged_models(
    planned: Sequence[Planned], records: Mapping[str, Record], limits: Limits
) -> dict[str, str]:
    """What every marked trial or merge is marked for, by name, without examples."""
    return dict(_marked(planned, records, limits))


def _marked(
    planned: Sequence[Planned], records: Mapping[str, Record], limits: Limits
) -> Iterator[tuple[str, str]]:
    for item in planned:
        record = records.get(item.id)
        if record and (found := broken_limits(record.metrics, limits)):
            yield item.name, "; ".join(found.values())


def _example(text: str | None) -> str:
    if text is None:
        return ""
    line = " ".join(text.split())
    short = line if len(line) <= _MOST_OF_EXAMPLE else f"{line[:_MOST_OF_EXAMPLE]}..."
    return f", such as {short!r}" if short else ", such as an empty one"


def _percent(value: float | None) -> str:
    assert value is not None
    return f"{100 * value:.3g} %"
