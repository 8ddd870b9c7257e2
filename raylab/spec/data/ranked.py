"""Several answers to one prompt, with what is said of them -> the better one and the worse one.

Model: a record has a list of answers, each with a score or a rank, or two answers in columns of
their own and which of them is preferred. Of a list the best answer is the chosen one and the worst
is the rejected one; of equal ones it is the first.
Invariant: a record that prefers none is left out and counted; answers between the best and the
worst are named in a warning.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from operator import itemgetter
from typing import Any

from raylab.spec.data.cells import Cells, LeftOut, RowError, every, is_said
from raylab.spec.data.conversations import MESSAGES, answer, asked, is_messages, turns_of
from raylab.spec.data.preferences import pair
from raylab.spec.data.rows import Row, Turn

_RANK = "rank"
"""The only measure of which less is better."""
BETWEEN = "answers between the best and the worst are not learned"


def best_and_worst(text: str, measure: str) -> Callable[[Cells], Row]:
    """The reader of a prompt and its `answers`: objects with the fields `text` and `measure`."""

    def read(cells: Cells) -> Row:
        before, answers = asked(cells, "prompt"), _answers(cells, text, measure)
        if len(answers) < 2:
            raise LeftOut(
                f"fewer than two of its {cells.columns['answers']} have the field {measure!r}"
            )
        best, worst = max(answers, key=itemgetter(0)), min(answers, key=itemgetter(0))
        if best[0] == worst[0]:
            raise LeftOut(f"all of its {cells.columns['answers']} have one {measure}")
        if len(answers) > 2:
            cells.unread.remarks.append(BETWEEN)
        return pair([*before, Turn("assistant", best[1])], [*before, Turn("assistant", worst[1])])

    return read


def _answers(cells: Cells, text: str, measure: str) -> list[tuple[float, str]]:
    """(measure, text) of each answer that has a measure, in their order. Raises RowError.

    The better answer has the greater number, so that a rank is negative.
    """
    found, column = cells.get("answers"), cells.columns["answers"]
    if not isinstance(found, list) or not all(isinstance(item, Mapping) for item in found):
        raise cells.wrong("answers", f"a list of objects with {text!r} and {measure!r}")
    answers = []
    for number, item in enumerate(found, 1):
        others = (key for key in item if key not in (text, measure) and is_said(item[key]))
        cells.unread.fields.update(dict.fromkeys(f"{column}.{key}" for key in others))
        if not is_said(item.get(measure)):
            continue
        value, said = _number(item[measure]), item.get(text)
        if value is None:
            raise RowError(f"column {column!r}, answer {number}: {measure!r} is no number")
        if not isinstance(said, str) or not said.strip():
            raise RowError(f"column {column!r}, answer {number}: {text!r} holds no text")
        answers.append((-value if measure == _RANK else value, said))
    return answers


def _number(value: Any) -> float | None:
    """A finite number, also one that is written as a text; None: it is none."""
    if isinstance(value, bool):
        return None
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def first_where(first: int, second: int) -> Callable[[Cells], Row]:
    """The reader of a prompt and two responses whose preference is `first` or `second`."""

    def read(cells: Cells) -> Row:
        says = _number(cells.get("preference"))
        if says not in (first, second):
            raise cells.wrong("preference", f"{first} (the first response is better) or {second}")
        return _two(cells, asked(cells, "prompt"), says == first)

    return read


def by_sign(cells: Cells) -> Row:
    """HelpSteer3: the sign of the preference says which response is better; 0: neither."""
    before = turns_of(cells, "context") if is_messages(cells.get("context")) else None
    before = before or [Turn("user", cells.text("context", f"text or {MESSAGES}"))]
    prefers = cells.get("preference")
    if isinstance(prefers, str) and re.fullmatch(r"\s*[+-]?\d+\s*", prefers):
        prefers = int(prefers)
    if isinstance(prefers, bool) or not isinstance(prefers, (int, float)):
        raise cells.wrong("preference", "a number: below 0 the first response is better, above 0 "
                          "the second")  # fmt: skip
    if prefers == 0:
        raise LeftOut(f"{cells.columns['preference']} is 0, so neither response is preferred")
    return _two(cells, before, prefers < 0)


def _two(cells: Cells, before: list[Turn], is_first_better: bool) -> Row:
    responses = every(lambda: answer(cells, "response1"), lambda: answer(cells, "response2"))
    chosen, rejected = responses if is_first_better else responses[::-1]
    return pair([*before, *chosen], [*before, *rejected])
