"""One language: words with values in them.

Model: a text is a format string whose fields name how a value is written, `{ratio:number}`; forms
are rows of FORMS. A field without a form is plain text.
Invariant: every key has words in every language, with the same fields (held by a test); a number
is written the same in all of them.
"""

from __future__ import annotations

import string
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from raylab.number_format import MISSING, count, listing, number, rate, setting
from raylab.report.study_tables import Rows, is_merge

if TYPE_CHECKING:
    from raylab.report.findings.finding import Sentence

LANGUAGES = ("en", "ja")
Words = Mapping[str, tuple[str, str]]

_MOST = 6


@dataclass(frozen=True)
class Voice:
    """Says what `words` hold, in one language."""

    language: str
    words: Words

    def __call__(self, key: str, **values: Any) -> str:
        """The words of `key` with `values` in them."""
        text = self.words[key][LANGUAGES.index(self.language)]
        return _Filler(self).vformat(text, (), values)

    def say(self, sentence: Sentence) -> str:
        """A sentence of a finding."""
        return self(sentence.key, **sentence.values)

    def head(self, sentence: Sentence) -> str:
        """What a sentence is about, its first letter large; a setting keeps its own name."""
        if not self.has(sentence.head):
            return sentence.head.removeprefix("factor.")
        text = self(sentence.head)
        return text[:1].upper() + text[1:]

    def has(self, key: str) -> bool:
        """Whether there are words for `key`."""
        return key in self.words

    def column(self, name: str) -> str:
        """The title of a column of a frame; its own name where it has no words."""
        if self.has(f"column.{name}"):
            return self(f"column.{name}")
        norm, _, seed = name.partition("_s")
        if norm in ("l1", "l2") and seed.isdigit():
            return self("column.norm_of_seed", norm=norm.upper(), seed=seed)
        return name

    def factor(self, name: str) -> str:
        """A factor, or several that cannot be told apart."""
        return " + ".join(
            self(f"factor.{part}") if self.has(f"factor.{part}") else part
            for part in name.split("+")
        )

    def amount(self, trials: Rows) -> str:
        """The number of trials and merges: 3 trials, or 3 trials and 1 merge."""
        merges = sum(map(is_merge, trials))
        if merges:
            return self("unit.trials_and_merges", trials=len(trials) - merges, merges=merges)
        return self("unit.trial", count=len(trials))

    def listing(self, items: Iterable[object]) -> str:
        """a, b and c."""
        return "、".join(map(str, items)) if self.language == "ja" else listing(items)

    def some(self, items: Sequence[object]) -> str:
        """At most six of them, and how many more there are."""
        more = len(items) - _MOST
        shown = self.listing(items[:_MOST]) if more <= 0 else ", ".join(map(str, items[:_MOST]))
        return shown if more <= 0 else self("some.more", shown=shown, more=more)


class _Filler(string.Formatter):
    """Fills a text's fields by FORMS."""

    def __init__(self, voice: Voice) -> None:
        self._voice = voice

    def format_field(self, value: Any, format_spec: str) -> str:
        form, _, argument = format_spec.partition(":")
        return FORMS[form](self._voice, value, argument)


def _noun(voice: Voice, value: int, noun: str) -> str:
    return noun if value == 1 else f"{noun}s"


def _plural(voice: Voice, value: int, noun: str) -> str:
    return f"{count(value)} {_noun(voice, value, noun)}"


def _shares(voice: Voice, value: Sequence[tuple[str, float]], argument: str) -> str:
    return voice.listing(voice("share.with", share=share, factor=factor) for factor, share in value)


def _by_seed(voice: Voice, value: Sequence[tuple[int, float | None]], argument: str) -> str:
    texts = [
        voice("seed.value", value=found, seed=seed)
        if found is not None
        else voice("seed.missing", seed=seed)
        for seed, found in value
    ]
    return voice("list.comma").join(texts)


def _verdicts(voice: Voice, value: Sequence[tuple[str, int, int]], argument: str) -> str:
    if len(value) == 1:
        name, _, total = value[0]
        form = "only" if total == 1 else "all"
        return voice(f"verdict.{form}", verdict=voice(f"verdict.{name}"), total=total)
    texts = [
        voice("verdict.some", verdict=voice(f"verdict.{name}"), count=count, total=total)
        for name, count, total in value
    ]
    return voice("list.comma").join(texts)


def _unassigned(voice: Voice, value: float, argument: str) -> str:
    if abs(value) < 5e-3:
        return ""
    key = "attribution.unassigned" if value > 0 else "attribution.overlap"
    return voice(key, share=abs(value))


FORMS: dict[str, Callable[[Voice, Any, str], str]] = {
    "": lambda voice, value, _: MISSING if value is None else str(value),
    "number": lambda voice, value, _: number(value),
    "short": lambda voice, value, _: MISSING if value is None else f"{value:.3g}",
    "cosine": lambda voice, value, _: MISSING if value is None else f"{value:.2f}",
    "count": lambda voice, value, _: count(value),
    "share": lambda voice, value, _: voice("share.little") if 0 < value < 5e-4 else rate(value),
    "unassigned": _unassigned,
    "answers": lambda voice, value, _: voice("list.semicolon").join(
        voice(f"answer.{answer}", factors=factors) for answer, factors in value if factors
    ),
    "also": lambda voice, value, _: voice("floor.also", names=value) if value else "",
    "rate": lambda voice, value, _: rate(value),
    "setting": lambda voice, value, _: setting(value),
    "degrees": lambda voice, value, _: MISSING if value is None else f"{value:.0f}°",
    "factor": lambda voice, value, _: voice.factor(value),
    "factors": lambda voice, value, _: voice.listing(map(voice.factor, value)),
    "list": lambda voice, value, _: voice.listing(value),
    "some": lambda voice, value, _: voice.some(value),
    "plural": _plural,
    "noun": _noun,
    "shares": _shares,
    "seeds": _by_seed,
    "word": lambda voice, value, _: voice(f"word.{value}"),
    "measure": lambda voice, value, _: voice(f"measure.{value}"),
    "verdicts": _verdicts,
    "said": lambda voice, value, _: voice.say(value),
}
"""By name: how a value is written. `{n:plural:trial}` is 1 trial, 2 trials."""
