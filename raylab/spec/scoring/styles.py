"""Styles of speech, recognised by the endings of sentences.

Model: a style is a row in a table, or a study's own: a pattern for the end of a sentence, matched
before its closing punctuation. An answer is in a style when at least half of its sentences end so.
Invariant: pure functions of the text; the same rule counts answers of every model.
"""

from __future__ import annotations

import re

_SENTENCE = re.compile(r"[^。．！？!?\n]+")
_AROUND = "「」『』（）()\"' 　…〜～♪"

STYLES: dict[str, re.Pattern[str]] = {
    # The speech of a noble lady in fiction: ですわ, ますの, くださいまし, ませんこと ...
    "ojousama": re.compile(
        r"(わ|わよ|わね|ですの|ますの|ましたの|でしたの|ませんの|ですこと|ませんこと|まし|かしら)$"
    ),
    # Ordinary polite Japanese.
    "polite": re.compile(r"(です|ます|でした|ました|ません|ください|ましょう|ですか|ますか)$"),
}


def sentences(text: str) -> list[str]:
    """The sentences of `text` without punctuation and quotes around them."""
    stripped = (part.strip().strip(_AROUND) for part in _SENTENCE.findall(text))
    return [part for part in stripped if part]


def sentence_ending(style: str | re.Pattern[str]) -> re.Pattern[str]:
    """The pattern of a row of STYLES, or of a study's own, held to the end of a sentence."""
    return STYLES[style] if isinstance(style, str) else re.compile(f"(?:{style.pattern})$")


def in_style(text: str, style: str | re.Pattern[str]) -> bool:
    """Whether at least half of the sentences of `text` end in `style`; False where it has none."""
    parts, ending = sentences(text), sentence_ending(style)
    hits = sum(bool(ending.search(part)) for part in parts)
    return bool(parts) and 2 * hits >= len(parts)
