"""In which script a text is written.

Model: each letter belongs to a script by its Unicode block; a text is in Japanese when it has kana
and at least half of its letters are kana or kanji, otherwise in the script of most of its letters.
Invariant: pure functions; digits, punctuation and symbols are no letters.
"""

from __future__ import annotations

from collections import Counter

SCRIPTS = ("japanese", "han", "latin", "other", "none")

_BLOCKS = (
    ("kana", "\u3041", "\u30ff"),
    ("kana", "\uff66", "\uff9f"),
    ("han", "\u3400", "\u9fff"),
    ("han", "\uf900", "\ufaff"),
    ("han", "\U00020000", "\U0003ffff"),
    ("latin", "A", "\u024f"),
    ("latin", "\uff21", "\uff5a"),
)


def script_of(text: str) -> str:
    """One of SCRIPTS: han is kanji without kana, none is a text without letters."""
    counts = Counter(_of_letter(letter) for letter in text if letter.isalpha())
    if not counts:
        return "none"
    if counts["kana"] and 2 * (counts["kana"] + counts["han"]) >= counts.total():
        return "japanese"
    return max(("han", "latin", "other"), key=lambda script: counts[script])


def _of_letter(letter: str) -> str:
    return next((name for name, first, last in _BLOCKS if first <= letter <= last), "other")
