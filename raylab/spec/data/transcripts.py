"""Transcripts of one text, as HH-RLHF writes conversations -> turns.

Model: after an empty line `Human:` and `Assistant:` begin a turn. A transcript starts with one. One
that is a prompt ends with an `Assistant:` that says nothing yet, and the answer stands in another
column.
Invariant: every text is read whole or is no transcript; nothing of it is left out.
"""

from __future__ import annotations

import re

from raylab.spec.data.rows import Turn

_SPEAKERS = {"Human": "user", "Assistant": "assistant"}
_SPOKEN = re.compile(r"(?:^|\n\n)(Human|Assistant):")


def transcript(text: str) -> list[Turn]:
    """The turns of a transcript; none where `text` is no transcript."""
    text = text.strip()
    marks = list(_SPOKEN.finditer(text))
    if not marks or marks[0].start():
        return []
    ends = [mark.start() for mark in marks[1:]] + [None]
    return [
        Turn(_SPEAKERS[mark[1]], text[mark.end() : end].strip())
        for mark, end in zip(marks, ends, strict=True)
    ]


def asked_in_transcript(text: str) -> list[Turn]:
    """The turns of a prompt that is a transcript up to the next answer; none: it is another text.

    The answer's column holds what follows the last `Assistant:`.
    """
    if not text.rstrip().endswith("Assistant:"):
        return []
    turns = transcript(text)
    is_open = len(turns) > 1 and turns[0].role == "user" and turns[-1] == Turn("assistant", "")
    return turns[:-1] if is_open else []
