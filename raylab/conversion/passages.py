"""A text with its protected passages hidden, sentence by sentence.

Model: code, addresses, formulas, tags and whatever stands in brackets or quotes (somebody's own
words) are each replaced by one character of a private plane, and put back in the end. The rest is
lines; a line is a prefix (indent, list marker, quotation mark of Markdown) and
sentences; a sentence is its core and its tail: closing punctuation, faces, remarks in brackets.
Invariant: the parts joined are the text; headings and tables are no sentences.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable

_FIRST, _LAST = 0xF0000, 0xFFFFD
_PLACE = f"[{chr(_FIRST)}-{chr(_LAST)}]"
_PROTECTED = re.compile(
    r"```.*?(?:```|\Z)|~~~.*?(?:~~~|\Z)"  # blocks of code
    r"|`[^`\n]+`"
    r"|[a-z][a-z0-9+.-]*://[!-~]+"  # addresses, in ASCII so that they end where Japanese begins
    r"|[\w.+-]+@[a-z0-9-]+(?:\.[a-z0-9-]+)+"
    r"|\$\$.+?\$\$|\$[^$\n]+\$|\\\(.+?\\\)|\\\[.+?\\\]"  # formulas
    r"|</?[a-zA-Z][^<>\n]*>"
    r'|"[^"\n]*"'
    rf"|{_PLACE}",
    re.DOTALL | re.ASCII | re.IGNORECASE,
)
_BRACKETS = dict(zip("「『（(【〈《［[“‘", "」』）)】〉》］]”’", strict=True))
_ROUND = "（(【［["
_PREFIX = re.compile(r"\s*(?:>\s*)*(?:(?:[-*+・●■◆○◇※→]|\d+[.)．）、](?!\d)|[①-⑳])\s*)?")
_NO_SENTENCE = re.compile(r"\s*(?:#{1,6}\s|\||[-=*_]{3,}\s*$)")
_SENTENCE = re.compile(
    r"(?:[^。．！？!?…\n]|．(?=\d))+(?:(?:[。！？!?…]|．(?!\d))+[\s♪☆★♡❤〜～]*)?"
)
_TAIL = "。．.！？!?…‥♪☆★♡❤〜～:： \t\u3000\ufe0f\u200d"


class ProtectedText:
    """A text whose protected passages are hidden while `rewrite` changes the rest."""

    def __init__(self, text: str) -> None:
        self._hidden: list[str] = []
        self._text = self._hide_brackets(_PROTECTED.sub(lambda m: self._hide(m[0]), text))

    def rewrite(self, sentence: Callable[[str, str], str]) -> str:
        """The text with `sentence(core, tail)` in place of each sentence."""
        lines = self._text.split("\n")
        return self._shown("\n".join(self._line(line, sentence) for line in lines))

    def _line(self, line: str, sentence: Callable[[str, str], str]) -> str:
        if _NO_SENTENCE.match(line):
            return line
        prefix = _PREFIX.match(line)
        start = prefix.end() if prefix else 0
        rest = _SENTENCE.sub(lambda m: sentence(*self._parts(m[0])), line[start:])
        return line[:start] + rest

    def _parts(self, sentence: str) -> tuple[str, str]:
        end = len(sentence)
        while end and self._is_tail(sentence[end - 1]):
            end -= 1
        return sentence[:end], sentence[end:]

    def _is_tail(self, character: str) -> bool:
        if character in _TAIL or unicodedata.category(character) == "So":
            return True
        return is_hidden(character) and self._shown(character)[0] in _ROUND

    def _hide(self, passage: str) -> str:
        place = chr(_FIRST + len(self._hidden))
        assert ord(place) <= _LAST, "more passages than private characters"
        self._hidden.append(passage)
        return place

    def _hide_brackets(self, text: str) -> str:
        """Outermost brackets that are closed become one character each."""
        open_at: list[tuple[int, str]] = []
        spans: list[tuple[int, int]] = []
        for at, character in enumerate(text):
            if character in _BRACKETS:
                open_at.append((at, _BRACKETS[character]))
            elif any(closing == character for _, closing in open_at):
                while open_at[-1][1] != character:
                    open_at.pop()
                start, _ = open_at.pop()
                spans = [span for span in spans if span[0] < start] + [(start, at + 1)]
        for start, end in reversed(spans):
            text = text[:start] + self._hide(self._shown(text[start:end])) + text[end:]
        return text

    def _shown(self, text: str) -> str:
        """`text` with every passage put back; one in brackets may hold others."""
        return re.sub(_PLACE, lambda m: self._hidden[ord(m[0]) - _FIRST], text)


def is_hidden(character: str) -> bool:
    """Whether `character` stands for a passage."""
    return len(character) == 1 and _FIRST <= ord(character) <= _LAST
