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
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from raylab.number_format import plural
from raylab.spec.data.framing import Framer, FramingError, Learn, learned_turns
from raylab.spec.data.pairs import listed
from raylab.spec.data.rows import Row, Turn

_REASONING = ("reasoning_content", "thinking", "reasoning")
_THOUGHT = re.compile(r"\s*<think>.*?</think>", re.DOTALL)
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
            (turn.role, _kind_of_text(turn), _kinds(turn), turn.learned) for turn in row.turns
        )
        rejected = (_thinks(row.rejected), _kinds(row.rejected)) if row.rejected else None
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


def _kind_of_text(turn: Turn) -> Any:
    """Whether a turn has no text, or one that begins with reasoning."""
    return not turn.text or turn.text.isspace(), _thinks(turn)


def _thinks(turn: Turn) -> bool:
    """Whether a text begins with reasoning in marks that templates know and may take out."""
    return turn.role == "assistant" and _THOUGHT.match(turn.text) is not None


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
        is_sound = not any(is_problem for _, is_problem in said)
        for what, is_problem in _as_they_are(framer, shape, learn, is_sound):
            (problems if is_problem else notes).append(what)
    return Findings(tuple(problems), tuple(notes))


def _as_they_are(
    framer: Framer, shape: Shape, learn: Learn, is_sound: bool
) -> Iterator[tuple[str, bool]]:
    """(what happens to what the rows of a shape say, whether that is a problem).

    The first row that cannot be framed ends it. `is_sound`: the template frames every text of a
    probe of this shape, so a text that is not there was changed for what it says.
    """
    said: set[str] = set()
    for row, place in zip(shape.rows[:_AS_THEY_ARE], shape.places, strict=False):
        try:
            changed = list(_changed(framer, row, learn)) if is_sound else []
            framer.frame(row, learn)
        except FramingError as error:
            yield f"row {place}, for what it says: {error}", True
            return
        for what, is_problem in changed:
            if what not in said:
                said.add(what)
                yield f"row {place}, for what it says: {what}", is_problem


def _changed(framer: Framer, row: Row, learn: Learn) -> Iterator[tuple[str, bool]]:
    """(a turn whose text the template does not frame as it is, whether it is learned).

    White space does not count: templates strip texts. Results of tools may be written as JSON.
    """
    turns, framed = [*row.turns], framer.frame(row, learn).text
    if row.rejected:
        turns.append(row.rejected)
        framed += framer.frame(row._replace(turns=(*row.turns[:-1], row.rejected)), learn).text
    there, learned = "".join(framed.split()), learned_turns(row, learn)
    for place, turn in enumerate(turns):
        is_learned = place in learned or place == len(row.turns)
        # Of reasoning that is not learned the probe says what becomes.
        is_known = turn.role == "tool" or (_thinks(turn) and not is_learned)
        if not is_known and "".join(turn.text.split()) not in there:
            called = _called((place, "text"), row)
            yield f"the template changes {called}, or leaves out a part of it", is_learned


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
    text = framer.text(messages, False, probe.tools_given)
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
    if tools := row.tools_given:
        names = [_function(tool).get("name") for tool in tools]
        texts[None, "the tools"] = [name for name in names if isinstance(name, str)]
    return row._replace(turns=tuple(turns), rejected=rejected), texts


def _probe_turn(turn: Turn, place: int, texts: dict[tuple[int | None, str], list[str]]) -> Turn:
    text = turn.text
    if text.strip():
        texts[place, "text"] = [f"text {place} of {turn.role}"]
        text = texts[place, "text"][0]
        if _thinks(turn):
            texts[place, "reasoning"] = [f"thought {place} of {turn.role}"]
            text = f"<think>\n{texts[place, 'reasoning'][0]}\n</think>\n\n{text}"
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
