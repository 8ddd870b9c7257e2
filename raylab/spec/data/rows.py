"""The rows of data sets: conversations that end in an answer, and the rows that are held out.

Model: a row is a conversation whose last turn is the answer. The turn before it is the prompt: of
the user, or of a tool that the model called. A turn may carry more than its text (reasoning, tool
calls), as chat templates take it. A preference is a row whose answer is the chosen one, with a
rejected answer beside it. Which answers are learned is said by turns (`learned`), else by the
study. Only the text of the user's turns decides whether a row is held out. So D0, D1 and their
concatenation hold out the same prompts, in any order of rows and with any seed.
Invariant: pure functions of the texts. The last turn is an answer that is learned. A row of a
prompt and an answer is (prompt, answer) in every fingerprint, in whatever format it was read. The
names of the other fields are part of fingerprints: do not rename them.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any, NamedTuple, TypeVar

from raylab.spec.identity import fingerprint_of_items, written_items

Summed = TypeVar("Summed", int, Counter["Kind"])


class Turn(NamedTuple):
    """One message of a conversation; `role` is system, user, assistant or tool."""

    role: str
    text: str
    more: str = ""
    """Other fields of the message that templates read, as JSON in the order of the data, in which
    templates print them; empty: none."""
    learned: bool | None = None
    """Whether the data says that this answer is learned; None: it says nothing."""

    @property
    def message(self) -> dict[str, Any]:
        """The turn as chat templates take it."""
        return {"role": self.role, "content": self.text, **json.loads(self.more or "{}")}


class Row(NamedTuple):
    """One example: a conversation of two turns or more."""

    turns: tuple[Turn, ...]
    rejected: Turn | None = None
    """The rejected answer, where the data set has one."""
    key: str | None = None
    """The value that pairs this row with one of another data set; None: the user's text."""
    tools: str = ""
    """The tools that the model may call, a JSON list in the order of the data; empty: none."""

    @classmethod
    def of(
        cls,
        prompt: str,
        completion: str,
        earlier: Sequence[Turn] = (),
        rejected: str | None = None,
        key: str | None = None,
    ) -> Row:
        """The row of a user's prompt and its answer; `earlier`: the turns before the prompt."""
        turns = (*earlier, Turn("user", prompt), Turn("assistant", completion))
        return cls(turns, None if rejected is None else Turn("assistant", rejected), key)

    @property
    def prompt(self) -> str:
        """The text of the turn that is answered."""
        return self.turns[-2].text

    @property
    def completion(self) -> str:
        """The text of the answer."""
        return self.turns[-1].text

    @property
    def earlier(self) -> tuple[Turn, ...]:
        """The turns before the prompt, the first first."""
        return self.turns[:-2]

    @property
    def asked(self) -> tuple[tuple[Turn, ...], str]:
        """Everything that is before the answer. Rows that are equal in it ask the same."""
        return self.turns[:-1], self.tools

    @property
    def texts(self) -> list[str]:
        """Every text of the row: earlier turns, the prompt, and the answers."""
        rejected = [self.rejected] if self.rejected else []
        return [turn.text for turn in (*self.turns, *rejected)]

    @property
    def user_text(self) -> str:
        """The text of all the user's turns. It decides whether the row is held out."""
        return "\n".join([turn.text for turn in self.turns if turn.role == "user"])

    @property
    def tools_given(self) -> list[Any] | None:
        """The tools as chat templates take them; None: none."""
        tools: list[Any] | None = json.loads(self.tools) if self.tools else None
        return tools

    @property
    def chat(self) -> list[dict[str, Any]]:
        """The conversation up to the answer, as chat templates take it."""
        return [turn.message for turn in self.turns[:-1]]


class Kind(NamedTuple):
    """What a row is beside its texts: the roles and the marks (`Turn.learned`) of its turns."""

    roles: tuple[str, ...]
    learned: tuple[bool | None, ...]
    has_tools: bool
    has_rejected: bool


class LoadedRows(list[Row]):
    """The rows of one data set, in order. Every trial of a plan asks the same of all of them, so
    the answers are computed once, and the rows are not to be changed."""

    parts: tuple[LoadedRows, ...] = ()
    """The data sets that these rows join, in order: what is asked of them is put together."""

    @classmethod
    def joined(cls, parts: Sequence[LoadedRows]) -> LoadedRows:
        """The rows of some data sets, one after the other."""
        found = cls(row for part in parts for row in part)
        found.parts = tuple(parts)
        return found

    def __reduce__(self) -> tuple[Any, ...]:
        # A worker computes the answers anew: they cost more to send.
        return LoadedRows, (list(self),)

    @cached_property
    def fingerprint(self) -> str:
        """16 hex digits that stand for the rows in their order."""
        return fingerprint_of_items([self.written()])

    def written(self) -> bytes:
        """The rows in the form in which they are hashed."""
        return written_items([_stable(row) for row in self])

    def split(self, share: float) -> tuple[list[Row], list[Row]]:
        """(training rows, held-out rows), each in the order of the data set."""
        if share not in self._splits:
            sides: tuple[list[Row], list[Row]] = ([], [])
            for part in self.parts:
                for side, rows in zip(sides, part.split(share), strict=True):
                    side += rows
            for row in () if self.parts else self:
                sides[is_held_out(row.user_text, share)].append(row)
            self._splits[share] = sides
        return self._splits[share]

    def training_sum(self, share: float, sum_of: Callable[[Sequence[Row]], Summed]) -> Summed:
        """`sum_of` the training rows, a sum over rows."""
        key = (share, sum_of)
        if key not in self._sums:
            first, *others = self.parts or (None,)
            if first is None:
                self._sums[key] = sum_of(self.split(share)[0])
            else:
                total = first.training_sum(share, sum_of)
                for part in others:
                    total = total + part.training_sum(share, sum_of)
                self._sums[key] = total
        found: Summed = self._sums[key]
        return found

    @cached_property
    def _splits(self) -> dict[float, tuple[list[Row], list[Row]]]:
        return {}

    @cached_property
    def _sums(self) -> dict[Any, Any]:
        return {}


def characters_of(rows: Sequence[Row]) -> int:
    """How many characters the turns and the tools of rows have; without rejected answers."""
    return sum(
        [
            len(row.tools) + sum([len(turn.text) + len(turn.more) for turn in row.turns])
            for row in rows
        ]
    )


def kinds_of(rows: Sequence[Row]) -> Counter[Kind]:
    """How many rows are of each kind."""
    found: Counter[tuple[Any, ...]] = Counter()
    for row in rows:
        roles, _, _, learned = zip(*row.turns, strict=True)
        found[roles, learned, bool(row.tools), row.rejected is not None] += 1
    return Counter({Kind(*kind): count for kind, count in found.items()})


def rows_fingerprint(rows: Sequence[Row]) -> str:
    """The fingerprint (16 hex digits) of `rows` in their order."""
    return _loaded(rows).fingerprint


def rows_fingerprints(sets: Mapping[str, Sequence[Row]]) -> dict[str, str]:
    """The fingerprint of each data set, by its name. A data set that others join is written once
    for all of them."""
    loaded = {name: _loaded(rows) for name, rows in sets.items()}
    missing = [rows for rows in loaded.values() if "fingerprint" not in vars(rows)]
    shared = {id(part): part for rows in missing for part in rows.parts}
    written = {key: part.written() for key, part in shared.items()}
    for rows in missing:
        parts = rows.parts or (rows,)
        rows.fingerprint = fingerprint_of_items(written.get(id(p)) or p.written() for p in parts)
    return {name: rows.fingerprint for name, rows in loaded.items()}


def training_sum(
    rows: Sequence[Row], share: float, sum_of: Callable[[Sequence[Row]], Summed]
) -> Summed:
    """`sum_of` the training rows of `rows`, computed once."""
    return _loaded(rows).training_sum(share, sum_of)


def _loaded(rows: Sequence[Row]) -> LoadedRows:
    return rows if isinstance(rows, LoadedRows) else LoadedRows(rows)


def _stable(row: Row) -> list[Any]:
    """The row as lists of texts; what a plain row lacks is not mentioned."""
    prompt, answer = row.turns[-2:]
    if len(row.turns) == 2 and row[1:] == (None, None, ""):
        # Most rows: a short way to the same.
        return [_text_or_turn(prompt, "user"), _text_or_turn(answer, "assistant")]
    beyond = {
        "earlier": list(map(_stable_turn, row.earlier)),
        "rejected": row.rejected and _text_or_turn(row.rejected, "assistant"),
        "key": row.key,
        "tools": row.tools,
    }
    said = {name: value for name, value in beyond.items() if value}
    first = [_text_or_turn(prompt, "user"), _text_or_turn(answer, "assistant")]
    return [*first, *([said] if said else [])]


def _text_or_turn(turn: Turn, role: str) -> str | list[Any]:
    """The text alone where the turn is a plain one of `role`."""
    return turn.text if turn[:3] == (role, turn.text, "") else _stable_turn(turn)


def _stable_turn(turn: Turn) -> list[Any]:
    extra = {"more": turn.more, "learned": turn.learned}
    said = {name: value for name, value in extra.items() if value not in ("", None)}
    return [turn.role, turn.text, *([said] if said else [])]


def is_held_out(prompt: str, share: float) -> bool:
    """Whether the SHA-256 of `prompt`, read as a fraction of 1, is below `share`."""
    digest = hashlib.sha256(prompt.strip().encode()).digest()
    return int.from_bytes(digest[:8], "big") < share * 2**64


def split(rows: Sequence[Row], share: float) -> tuple[list[Row], list[Row]]:
    """(training rows, held-out rows), each in the order of `rows`; not to be changed."""
    return _loaded(rows).split(share)
