"""Which models are marked, because their answers break a limit of the study.

Model: a limit is a row of BOUNDS: a rate of the answers, and whether the limit is its least or its
largest allowed value. A limit is not applied if the data's own answers to the same prompts
break it.
Invariant: the result depends only on the metrics of a record and on the limits. With other
limits other models are marked, and nothing is evaluated again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from raylab.plan.merges import Asked
from raylab.spec.evaluation import Limits
from raylab.store.records import Record

MAX_EXAMPLE_LENGTH = 60


class _Bound(NamedTuple):
    words: str
    is_least: bool

    def is_broken(self, value: float | None, limit: float) -> bool:
        """Whether `value` is on the wrong side of `limit`."""
        return value is not None and (value < limit if self.is_least else value > limit)


BOUNDS: dict[str, _Bound] = {
    "japanese_rate": _Bound("answers in Japanese", True),
    "stopped_rate": _Bound("answers that end by themselves", True),
    "repetition_rate": _Bound("answers that repeat themselves", False),
    "distinct_rate": _Bound("distinct answers", True),
    "style_rate": _Bound("answers in style", True),
}


def broken_limits(metrics: Mapping[str, Any], limits: Limits) -> dict[str, str]:
    """The limits that a model breaks, by rate, each as a text with the value and the limit."""
    expected = metrics.get("answers", {}).get("expected", {})
    found = {}
    for rate, bound in BOUNDS.items():
        limit, value = getattr(limits, rate), metrics.get(rate)
        if limit is None or value is None or not bound.is_broken(value, limit):
            continue
        if not bound.is_broken(expected.get(rate), limit):
            side = "at least" if bound.is_least else "at most"
            found[rate] = f"{bound.words}: {_percent(value)}, {side} {_percent(limit)} asked"
    return found


def flag_columns(metrics: Mapping[str, Any], limits: Limits) -> dict[str, Any]:
    """The columns `marked` and `marks`, the latter with an example answer for each broken limit.

    Both are None if the model has answered nothing.
    """
    if all(metrics.get(rate) is None for rate in BOUNDS):
        return {"marked": None, "marks": None}
    excerpts, broken = metrics.get("excerpts", {}), broken_limits(metrics, limits)
    marks = (words + _example(excerpts.get(rate)) for rate, words in broken.items())
    return {"marked": bool(broken), "marks": "; ".join(marks) or None}


def flagged_models(
    planned: Sequence[Asked], records: Mapping[str, Record], limits: Limits
) -> dict[str, str]:
    """The limits that each marked model breaks, by its name, without examples."""
    flagged = {}
    for item in planned:
        record = records.get(item.id)
        if record and (broken := broken_limits(record.metrics, limits)):
            flagged[item.name] = "; ".join(broken.values())
    return flagged


def _example(text: str | None) -> str:
    if text is None:
        return ""
    line = " ".join(text.split())
    short = line if len(line) <= MAX_EXAMPLE_LENGTH else f"{line[:MAX_EXAMPLE_LENGTH]}..."
    return f", such as {short!r}" if short else ", such as an empty one"


def _percent(value: float) -> str:
    return f"{100 * value:.3g} %"
