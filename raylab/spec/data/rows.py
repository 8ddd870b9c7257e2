"""The rows of data sets: prompt, answer, and the rows that are held out.

Model: a row is a prompt and its completion. Turns before the prompt (a system prompt, earlier
turns) are part of the prompt and are never learned. A preference is a row whose completion is the
chosen answer, with a rejected answer beside it. Only the text of the user's turns decides whether
a row is held out. So D0, D1 and their concatenation hold out the same prompts, in any order of
rows and with any seed.
Invariant: pure functions of the texts. A row of one turn is (prompt, completion) in every
fingerprint, in whatever format it was read. The names of the other fields are part of
fingerprints: do not rename them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any, NamedTuple

from raylab.spec.identity import fingerprint


class Turn(NamedTuple):
    """One message of a conversation; `role` is system, user or assistant."""

    role: str
    text: str


class Row(NamedTuple):
    """One example: a prompt and its answer."""

    prompt: str
    completion: str
    earlier: tuple[Turn, ...] = ()
    """The turns before the prompt, the first first."""
    rejected: str | None = None
    """The rejected answer, where the data set has one."""
    key: str | None = None
    """The value that pairs this row with one of another data set; None: the user's text."""

    @property
    def texts(self) -> list[str]:
        """Every text of the row: earlier turns, the prompt, and the answers."""
        rejected = [] if self.rejected is None else [self.rejected]
        return [*(turn.text for turn in self.earlier), self.prompt, self.completion, *rejected]

    @property
    def user_text(self) -> str:
        """The text of all the user's turns. It decides whether the row is held out."""
        if not self.earlier:
            return self.prompt
        earlier = [turn.text for turn in self.earlier if turn.role == "user"]
        return "\n".join([*earlier, self.prompt])

    @property
    def chat(self) -> list[dict[str, str]]:
        """The conversation up to the answer, as chat templates take it."""
        turns = (*self.earlier, Turn("user", self.prompt))
        return [{"role": turn.role, "content": turn.text} for turn in turns]


def rows_fingerprint(rows: Sequence[Row]) -> str:
    """The fingerprint (16 hex digits) of the texts of `rows` in their order."""
    return fingerprint([_stable(row) for row in rows])


def _stable(row: Row) -> list[Any]:
    beyond = {name: getattr(row, name) for name in Row._fields[2:] if getattr(row, name)}
    return [row.prompt, row.completion, *([beyond] if beyond else [])]


def is_held_out(prompt: str, share: float) -> bool:
    """Whether the SHA-256 of `prompt`, read as a fraction of 1, is below `share`."""
    digest = hashlib.sha256(prompt.strip().encode()).digest()
    return int.from_bytes(digest[:8], "big") < share * 2**64


def split(rows: Sequence[Row], share: float) -> tuple[list[Row], list[Row]]:
    """(training rows, held-out rows), each in the order of `rows`."""
    training = [row for row in rows if not is_held_out(row.user_text, share)]
    held_out = [row for row in rows if is_held_out(row.user_text, share)]
    return training, held_out
