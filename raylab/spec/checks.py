"""What looks wrong with rows that can be trained on: warnings, each a row of CHECKS.

Model: a check is a predicate of one text. Texts are what users and models say in a row, the
rejected answer among them. Two more look at whole rows: a prompt that is asked again, and a
row so long that no tokenizer fits it into max_length. How many characters a token holds is not
known before a tokenizer is; Japanese has one to two, English four to five, so that beyond
LONGEST characters for each token of max_length a row is cut, whatever the model.
Invariant: pure functions; a warning stops nothing.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from raylab.spec.pairs import listed, repeated
from raylab.spec.rows import Row

LONGEST = 8

# UTF-8 that was read as Latin-1 or Windows-1252 (ã‚ for あ), or as Shift JIS (縺ゅ for あ).
_LATIN = re.compile("(?:[à-ï][\u0080-\u00bf‚ƒ„…†‡ˆ‰Š‹ŒŽ‘’“”•–—˜™š›œžŸ€]{2}){2}")
_SHIFT_JIS = re.compile("[縺繧繝][^縺繧繝]{1,2}[縺繧繝]")

CHECKS: dict[str, Callable[[str], bool]] = {
    "replacement characters (U+FFFD), so text was lost,": lambda text: "\ufffd" in text,
    "text decoded by a wrong encoding": lambda text: bool(
        _LATIN.search(text) or _SHIFT_JIS.search(text)
    ),
    "a byte order mark inside the text": lambda text: "\ufeff" in text,
    "control characters": lambda text: any(c < " " and c not in "\t\n\r" for c in text),
}


def warnings_of(
    rows: Sequence[Row], places: Sequence[str], max_length: int | None = None
) -> list[str]:
    """What looks wrong with `rows`, one line for each check that finds something."""
    texts = [(row.texts, place) for row, place in zip(rows, places, strict=True)]
    found: list[str] = []
    for what, is_wrong in CHECKS.items():
        hits = [place for some, place in texts if any(map(is_wrong, some))]
        found += listed(f"{what} in rows", hits)
    found += listed("asked before in rows", repeated(rows, places))
    if max_length is not None:
        most = LONGEST * max_length
        long = [place for some, place in texts if sum(map(len, some)) > most]
        found += listed(
            f"more than {most} characters, to be cut at {max_length} tokens, in rows", long
        )
    return found
