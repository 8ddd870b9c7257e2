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

_LEAD, _REST = "[à-ï]", "[\u0080-\u00bf‚ƒ„…†‡ˆ‰Š‹ŒŽ‘’“”•–—˜™š›œžŸ€]{2}"


class Check(NamedTuple):
    """pattern begins with a set of characters: `re` finds that fastest. in_ascii: a text of ASCII
    alone may have it; most texts are such, and need no search otherwise."""

    pattern: re.Pattern[str]
    in_ascii: bool


def _beyond_ascii(pattern: str) -> Check:
    return Check(re.compile(pattern), in_ascii=False)


def _anywhere(pattern: str) -> Check:
    return Check(re.compile(pattern), in_ascii=True)


CHECKS: dict[str, Check] = {
    "replacement characters (U+FFFD), so text was lost,": _beyond_ascii("\ufffd"),
    # ã‚ for あ
    "text of a wrong encoding (UTF-8 read as Latin-1)": _beyond_ascii(
        f"{_LEAD}{_REST}{_LEAD}{_REST}"
    ),
    # 縺ゅ for あ
    "text of a wrong encoding (UTF-8 read as Shift JIS)": _beyond_ascii("[縺繧繝].{1,2}[縺繧繝]"),
    "a transcript (Human: ... Assistant: ...) that is learned as one text": _anywhere(
        "\n\nAssistant:"
    ),
    "marks of a chat template, which the model's template puts around them again,": _anywhere(
        r"[<\[#](?:\|(?:im_start|start_header_id|assistant)\|>|/INST\]|start_of_turn>"
        r"|## (?:Human|Assistant):)"
    ),
    "a byte order mark inside the text": _beyond_ascii("\ufeff"),
    "control characters": _anywhere(r"[\x00-\x08\x0b\x0c\x0e-\x1f]"),
}


def find_warnings(
    rows: Sequence[Row], places: Sequence[str], max_length: int | None = None
) -> list[str]:
    """Warnings about `rows`: one line for each check that finds something."""
    texts = [("\n".join(row.texts), place) for row, place in zip(rows, places, strict=True)]
    beyond_ascii = [(text, place) for text, place in texts if not text.isascii()]
    found: list[str] = []
    for what, check in CHECKS.items():
        searched, search = texts if check.in_ascii else beyond_ascii, check.pattern.search
        hits = [place for text, place in searched if search(text)]
        found += listed(f"{what} in rows", hits)
    found += listed("asked before in rows", repeated(rows, places))
    if max_length is not None:
        most = LONGEST * max_length
        long = [place for text, place in texts if len(text) > most]
        found += listed(
            f"more than {most} characters, to be cut at {max_length} tokens, in rows", long
        )
    return found
