"""The shapes of the conversations of a data set, and whether a chat template can frame each.

Model: a shape is what a template may treat in its own way: the roles of the turns in order, which
of them have a text, reasoning or tool calls, and whether there are tools. A probe has the shape of
a row, with words of its own for every text, so that a text that a template leaves out is noticed.
Some templates drop the reasoning of earlier turns on purpose: they frame the same turn with its
reasoning where it is the last. That is a note, as is a name or an id that no text shows; everything
else that is left out is a problem. Besides, some rows of each shape are framed as they are, since a
template may refuse what a text says.
Invariant: one probe and at most `_AS_THEY_ARE` rows a shape, whatever the number of rows.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from raylab.number_format import plural
from raylab.spec.data.framing import Framer, FramingError, Learn, learned_turns, tools_of
from raylab.spec.data.pairs import listed
from raylab.spec.data.rows import Row, Turn

_REASONING = ("reasoning_content", "thinking", "reasoning")
_CALLS = "tool_calls"
_BESIDE = ("name", "tool_call_id")
"""Fields of a turn that a template may do without."""
_AS_THEY_ARE = 100


@dataclass(frozen=True)
class Shape:
    """Rows of one shape, and their places."""

    rows: tuple[Row, ...]
    places: tuple[str, ...]

    @property
    def row(self) -> Row:
        """The first of them."""
        return self.rows[0]

    @property
    def name(self) -> str:
        """What is particular about it, in words."""
        turns = self.row.turns
        asked = sum(turn.role == "user" for turn in turns)
        more = {key for turn in turns for key in json.loads(turn.more or "{}")}
        parts = {
            "a system turn": any(turn.role == "system" for turn in turns),
            "tools": bool(self.row.tools),
            "tool calls": _CALLS in more,
            "tool turns": any(turn.role == "tool" for turn in turns),
            "reasoning": bool(more & {*_REASONING}),
        }
        found = [part for part, there in parts.items() if there]
        size = "of one question" if asked < 2 else "of several turns"
        return f"{size}, with {' and '.join(found)}" if found else size


@dataclass(frozen=True)
class Findings:
    """What a template makes of a data set: problems stop a study, notes do not."""

    problems: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def shapes_of(rows: Sequence[Row], places: Sequence[str]) -> list[Shape]:
    """The shapes of `rows`, in the order in which they are found."""
    found: dict[Any, list[tuple[Row, str]]] = {}
    for row, place in zip(rows, places, strict=True):
        turns = tuple(
            (turn.role, not turn.text or turn.text.isspace(), _kinds(turn), turn.learned)
            for turn in row.turns
        )
        rejected = _kinds(row.rejected) if row.rejected else None
        key = (_without_repeats(turns), bool(row.tools), rejected)
        found.setdefault(key, []).append((row, place))
    return [Shape(*zip(*pairs, strict=True)) for pairs in found.values()]


@lru_cache(maxsize=4096)
def _without_repeats(turns: tuple[Any, ...]) -> tuple[Any, ...]:
    """The turns without a question and its answer that came twice just before.

    No template treats them in another way the third time. The last turn stays.
    """
    kept: list[Any] = []
    for turn in turns:
        kept.append(turn)
        if len(kept) >= 6 and kept[-2:] == kept[-4:-2] == kept[-6:-4]:
            del kept[-2:]
    return tuple(kept)


def _kinds(turn: Turn) -> Any:
    """The fields of a turn beside its text; of its calls how many, and the type of arguments."""
    if not turn.more:
        return ()
    more = json.loads(turn.more)
    calls = [type(_function(call).get("arguments")).__name__ for call in more.get(_CALLS) or ()]
    return tuple(sorted(more)), tuple(calls)


def examine(framer: Framer, shapes: Sequence[Shape], learn: Learn = "last") -> Findings:
    """What the template of `framer` makes of conversations of these shapes."""
    try:
        framer.end  # noqa: B018 - found once, before any row is
    except FramingError as error:
        return Findings((str(error),))
    problems, notes = [], []
    for shape in shapes:
        count = plural(len(shape.places), "conversation")
        where = "; ".join(listed(f"{count} {shape.name}, rows", shape.places))
        try:
            said = list(_lost(framer, shape.row, learn))
        except FramingError as error:
            problems.append(f"{where}: {error}")
            continue
        problems += [f"{where}: {what}" for what, is_problem in said if is_problem]
        notes += [f"{where}: {what}" for what, is_problem in said if not is_problem]
        problems += _unframed(framer, shape, learn)
    return Findings(tuple(problems), tuple(notes))


def _unframed(framer: Framer, shape: Shape, learn: Learn) -> Iterator[str]:
    """The first of the rows of a shape whose own texts the template cannot frame."""
    for row, place in zip(shape.rows[:_AS_THEY_ARE], shape.places, strict=False):
        try:
            framer.frame(row, learn)
        except FramingError as error:
            yield f"row {place}, for what it says: {error}"
            return


def _lost(framer: Framer, row: Row, learn: Learn) -> Iterator[tuple[str, bool]]:
    """(what the template leaves out of the shape of `row`, whether that is a problem)."""
    probe, texts = probe_of(row)
    framed = framer.frame(probe, learn).text
    if probe.rejected:
        other = probe._replace(turns=(*probe.turns[:-1], probe.rejected), rejected=None)
        framed += framer.frame(other, learn).text
    learned = learned_turns(probe, learn)
    for what, words in texts.items():
        place, kind = what
        lost = [word for word in words if word not in framed]
        if not lost:
            continue
        is_open = kind == "reasoning" and place not in learned
        if is_open and _is_kept_at_the_end(framer, probe, place, lost):
            yield "the template leaves out the reasoning of earlier turns, as in an answer", False
            continue
        is_problem = kind not in _BESIDE
        yield f"the template leaves out {_called(what, probe)} ({lost[0]!r})", is_problem


def _is_kept_at_the_end(
    framer: Framer, probe: Row, place: int | None, words: Sequence[str]
) -> bool:
    """Whether `place` is an earlier turn that has its reasoning where it is the last turn."""
    if place is None or place >= len(probe.turns) - 1:
        return False
    messages = [turn.message for turn in probe.turns[: place + 1]]
    text = framer.text(messages, False, tools_of(probe))
    return all(word in text for word in words)


def _called(what: tuple[int | None, str], probe: Row) -> str:
    place, kind = what
    if place is None:
        return kind
    last = len(probe.turns) - 1
    if place < last:
        return f"the {kind} of {probe.turns[place].role} turn {place + 1}"
    return f"the {kind} of the {'answer' if place == last else 'rejected answer'}"


def probe_of(row: Row) -> tuple[Row, dict[tuple[int | None, str], list[str]]]:
    """(a row of the same shape, its words by (place of the turn, what they are))."""
    texts: dict[tuple[int | None, str], list[str]] = {}
    turns = [_probe_turn(turn, place, texts) for place, turn in enumerate(row.turns)]
    rejected = row.rejected and _probe_turn(row.rejected, len(turns), texts)
    if row.tools:
        names = [_function(tool).get("name") for tool in json.loads(row.tools)]
        texts[None, "the tools"] = [name for name in names if isinstance(name, str)]
    return row._replace(turns=tuple(turns), rejected=rejected), texts


def _probe_turn(turn: Turn, place: int, texts: dict[tuple[int | None, str], list[str]]) -> Turn:
    text = turn.text
    if text.strip():
        text = f"text {place} of {turn.role}"
        texts[place, "text"] = [text]
    if not turn.more:
        return turn._replace(text=text)
    more = json.loads(turn.more)
    for name in _REASONING:
        if isinstance(more.get(name), str) and more[name].strip():
            more[name] = f"thought {place} of {turn.role}"
            texts[place, "reasoning"] = [more[name]]
    for name in _BESIDE:
        if isinstance(more.get(name), str):
            texts[place, name] = [more[name]]
    if more.get(_CALLS):
        words: list[str] = []
        more[_CALLS] = [_probe_call(call, f"{place}.{n}", words) for n, call in
                        enumerate(more[_CALLS])]  # fmt: skip
        texts[place, "tool calls"] = words
    return turn._replace(text=text, more=json.dumps(more, ensure_ascii=False))


def _probe_call(call: Any, where: str, words: list[str]) -> Any:
    """The same call with words of its own for the texts among its arguments."""
    function = dict(_function(call))
    if isinstance(function.get("name"), str):
        words.append(function["name"])
    given = function.get("arguments")
    if isinstance(given, str):
        function["arguments"] = _probe_text(given, where, words)
    elif given is not None:
        function["arguments"] = _probe_value(given, where, words)
    return {**call, "function": function} if "function" in call else function


def _probe_text(arguments: str, where: str, words: list[str]) -> str:
    try:
        values = json.loads(arguments)
    except ValueError:
        return arguments
    return json.dumps(_probe_value(values, where, words), ensure_ascii=False)


def _probe_value(value: Any, where: str, words: list[str]) -> Any:
    if isinstance(value, str):
        words.append(f"value {where}.{len(words)}")
        return words[-1]
    if isinstance(value, list):
        return [_probe_value(item, where, words) for item in value]
    if isinstance(value, dict):
        return {key: _probe_value(item, where, words) for key, item in value.items()}
    return value


def _function(tool: Any) -> Mapping[str, Any]:
    """The function of a tool or of a call, which may stand in it under `function`."""
    found = tool.get("function", tool) if isinstance(tool, dict) else {}
    return found if isinstance(found, dict) else {}
