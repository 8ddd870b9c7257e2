"""The shapes of the conversations of a data set, and whether a chat template can frame each.

Model: a shape is what a template may treat in its own way: the roles of the turns in order, which
of them have a text, reasoning or tool calls, and whether there are tools. A probe of each shape is
framed (`raylab.spec.data.probes`), so that a text that a template leaves out is noticed.
Some templates drop the reasoning of earlier turns on purpose: they frame the same turn with its
reasoning where it is the last. That is a note, as is a name or an id that no text shows; everything
else that is left out is a problem. Besides, some rows of each shape are framed as they are, since a
template may refuse what a text says.
Invariant: one probe and at most `_AS_THEY_ARE` rows a shape, whatever the number of rows.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from raylab.number_format import plural
from raylab.spec.data.framing import Framer, FramingError, Learn, learned_turns
from raylab.spec.data.pairs import listed
from raylab.spec.data.probes import BESIDE, CALLS, MARK, REASONING, function_of, probe_of, thinks
from raylab.spec.data.rows import Row, Turn

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
            "tool calls": CALLS in more,
            "tool turns": any(turn.role == "tool" for turn in turns),
            "reasoning": bool(more & {*REASONING}),
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
        rejected = (thinks(row.rejected), _kinds(row.rejected)) if row.rejected else None
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
    return not turn.text or turn.text.isspace(), thinks(turn)


def _kinds(turn: Turn) -> Any:
    """The fields of a turn beside its text; of its calls how many, and the type of arguments."""
    if not turn.more:
        return ()
    more = json.loads(turn.more)
    calls = [type(function_of(call).get("arguments")).__name__ for call in more.get(CALLS) or ()]
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
        is_known = turn.role == "tool" or (thinks(turn) and not is_learned)
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
        is_problem = kind not in BESIDE
        yield (
            f"the template leaves out {_called(what, probe)} ({lost[0].removesuffix(MARK)!r})",
            is_problem,
        )


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
