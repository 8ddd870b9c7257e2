"""Warnings about rows that can be trained on; each check is a row of CHECKS.

Model: a check is a pattern that no sound text contains. It is searched in every text of a row, also
in the rejected answer. Two more checks look at whole rows: a repeated prompt, and a row that is too
long for max_length with any tokenizer. A token of Japanese holds one to two characters, of English
four to five. So a row with more than LONGEST characters for each token of max_length is cut.
Invariant: pure functions; a warning stops nothing.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from raylab.spec.data.pairs import listed, repeated
from raylab.spec.data.rows import Row

LONGEST = 8
_FEW = 4
"""The most characters that are looked for in every text; a pattern is as fast as more of them."""

_JIS = "縺繧繝"
_LEAD, _REST = "àáâãäåæçèéêëìíîï", "[\u0080-\u00bf‚ƒ„…†‡ˆ‰Š‹ŒŽ‘’“”•–—˜™š›œžŸ€]{2}"
_CONTROL = "".join(chr(code) for code in range(32) if chr(code) not in "\t\n\r")


Texts = Sequence[tuple[str, str]]
"""The texts of each row, joined, and the place of the row."""


class Check(NamedTuple):
    """needs: characters of which every match has one. To look for a character is twenty times as
    fast as to search a pattern, and most data sets have none of them."""

    pattern: re.Pattern[str]
    needs: str


def _check(pattern: str, needs: str) -> Check:
    return Check(re.compile(pattern), needs)


CHECKS: dict[str, Check] = {
    "replacement characters (U+FFFD), so text was lost,": _check("\ufffd", "\ufffd"),
    # ã‚ for あ
    "text of a wrong encoding (UTF-8 read as Latin-1)": _check(
        f"[{_LEAD}]{_REST}[{_LEAD}]{_REST}", _LEAD
    ),
    # 縺ゅ for あ
    "text of a wrong encoding (UTF-8 read as Shift JIS)": _check(f"[{_JIS}].{{1,2}}[{_JIS}]", _JIS),
    "a transcript (Human: ... Assistant: ...) that is learned as one text": _check(
        "\n\nAssistant:", "A"
    ),
    "marks of a chat template, which the model's template puts around them again,": _check(
        r"[<\[#](?:\|(?:im_start|start_header_id|assistant)\|>|/INST\]|start_of_turn>"
        r"|## (?:Human|Assistant):)",
        "<[#",
    ),
    "a byte order mark inside the text": _check("\ufeff", "\ufeff"),
    "control characters": _check(f"[{_CONTROL}]", _CONTROL),
}


def find_warnings(
    rows: Sequence[Row], places: Sequence[str], max_length: int | None = None
) -> list[str]:
    """Warnings about `rows`: one line for each check that finds something."""
    texts = [("\n".join(row.texts), place) for row, place in zip(rows, places, strict=True)]
    whole = "".join([text for text, _ in texts])
    found: list[str] = []
    for what, check in CHECKS.items():
        there = [character for character in check.needs if character in whole]
        search = check.pattern.search
        hits = [place for text, place in _with_any(texts, there) if search(text)]
        found += listed(f"{what} in rows", hits)
    found += listed("asked before in rows", repeated(rows, places))
    if max_length is not None:
        most = LONGEST * max_length
        long = [place for text, place in texts if len(text) > most]
        found += listed(
            f"more than {most} characters, to be cut at {max_length} tokens, in rows", long
        )
    return found


def _with_any(texts: Texts, characters: Sequence[str]) -> Texts:
    """The texts that may have one of some characters."""
    if len(characters) > _FEW:
        return texts
    found = {n for one in characters for n, (text, _) in enumerate(texts) if one in text}
    return [texts[n] for n in sorted(found)]
