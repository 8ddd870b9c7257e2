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

from raylab.spec.data.pairs import listed, repeated
from raylab.spec.data.rows import Row

LONGEST = 8

_LEAD, _REST = "[à-ï]", "[\u0080-\u00bf‚ƒ„…†‡ˆ‰Š‹ŒŽ‘’“”•–—˜™š›œžŸ€]{2}"

# Each pattern begins with a set of characters: `re` finds that fastest.
CHECKS: dict[str, re.Pattern[str]] = {
    "replacement characters (U+FFFD), so text was lost,": re.compile("\ufffd"),
    # ã‚ for あ
    "text of a wrong encoding (UTF-8 read as Latin-1)": re.compile(f"{_LEAD}{_REST}{_LEAD}{_REST}"),
    # 縺ゅ for あ
    "text of a wrong encoding (UTF-8 read as Shift JIS)": re.compile("[縺繧繝].{1,2}[縺繧繝]"),
    "a transcript (Human: ... Assistant: ...) that is learned as one text": re.compile(
        "\n\nAssistant:"
    ),
    "marks of a chat template, which the model's template puts around them again,": re.compile(
        r"[<\[#](?:\|(?:im_start|start_header_id|assistant)\|>|/INST\]|start_of_turn>"
        r"|## (?:Human|Assistant):)"
    ),
    "a byte order mark inside the text": re.compile("\ufeff"),
    "control characters": re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f]"),
}


def find_warnings(
    rows: Sequence[Row], places: Sequence[str], max_length: int | None = None
) -> list[str]:
    """Warnings about `rows`: one line for each check that finds something."""
    texts = [("\n".join(row.texts), place) for row, place in zip(rows, places, strict=True)]
    found: list[str] = []
    for what, pattern in CHECKS.items():
        hits = [place for text, place in texts if pattern.search(text)]
        found += listed(f"{what} in rows", hits)
    found += listed("asked before in rows", repeated(rows, places))
    if max_length is not None:
        most = LONGEST * max_length
        long = [place for text, place in texts if len(text) > most]
        found += listed(
            f"more than {most} characters, to be cut at {max_length} tokens, in rows", long
        )
    return found
