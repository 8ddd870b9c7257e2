"""The rows of data sets: what is asked, the answer, and which rows are held out.

Model: a row is a prompt and its completion. What was said before the prompt (a system prompt,
earlier turns) is kept as turns and is never learned. A preference is a row whose completion is
chosen, and which has a rejected answer. Whether a row is held out depends on what its users say,
and on nothing else, so D0, D1 and their concatenation hold out the same prompts, whatever the
order of rows or the seed.
Invariant: pure functions of the texts; a row of one turn is (prompt, completion) in every
fingerprint, wherever it was read from.
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
    """One example: what is asked, and the answer."""

    prompt: str
    completion: str
    earlier: tuple[Turn, ...] = ()
    """What was said before the prompt."""
    rejected: str | None = None
    """The answer that is not preferred, where the data set has one."""
    key: str | None = None
    """What pairs this row with one of another data set; None: what is asked."""

    @property
    def texts(self) -> list[str]:
        """Every text of it: what was said before, the prompt, and the answers."""
        rejected = [] if self.rejected is None else [self.rejected]
        return [*(turn.text for turn in self.earlier), self.prompt, self.completion, *rejected]

    @property
    def asked(self) -> str:
        """What the user says, in all turns: the text that decides whether it is held out."""
        if not self.earlier:
            return self.prompt
        said = [turn.text for turn in self.earlier if turn.role == "user"]
        return "\n".join([*said, self.prompt])

    @property
    def chat(self) -> list[dict[str, str]]:
        """The conversation up to the answer, as chat templates take it."""
        turns = (*self.earlier, Turn("user", self.prompt))
        return [{"role": turn.role, "content": turn.text} for turn in turns]


def rows_fingerprint(rows: Sequence[Row]) -> str:
    """16 hex digits that stand for the texts of `rows` in their order."""
    return fingerprint([_stable(row) for row in rows])


def _stable(row: Row) -> list[Any]:
    beyond = {name: getattr(row, name) for name in Row._fields[2:] if getattr(row, name)}
    return [row.prompt, row.completion, *([beyond] if beyond else [])]


def is_held_out(prompt: str, share: float) -> bool:
    """Whether `prompt` is kept from training: SHA-256 of its text, read as a fraction of 1."""
    digest = hashlib.sha256(prompt.strip().encode()).digest()
    return int.from_bytes(digest[:8], "big") < share * 2**64


def split(rows: Sequence[Row], share: float) -> tuple[list[Row], list[Row]]:
    """(training rows, held-out rows), each in the order of `rows`."""
    training = [row for row in rows if not is_held_out(row.asked, share)]
    held_out = [row for row in rows if is_held_out(row.asked, share)]
    return training, held_out
