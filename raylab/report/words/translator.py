"""Messages of the report in one language, with values in them.

Model: the messages of a language are the file LANGUAGE.ftl beside this module, in the syntax of
Project Fluent. `{ $name }` in a message is the value `name`, written plainly; `{ PERCENT($share) }`
is the value in the form of a row of FUNCTIONS.
Invariant: every language has the same messages with the same values (held by a test), and writes
a number in the same way. A message or value that is missing raises; Fluent alone would write a
placeholder.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterable, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any

from fluent.runtime import FluentBundle, FluentResource, resolver
from fluent.runtime.types import FluentType
from fluent.syntax.ast import Junk

from raylab.number_format import MISSING, count, listing, rate, setting, short
from raylab.report.findings.finding import Sentence

LANGUAGES = ("en", "ja")
_MOST_NAMES = 6
_SMALL_RATIO = 1.2
# Fluent refuses values of over 2,500 characters, to protect servers; answers of models are longer.
resolver.MAX_PART_LENGTH = sys.maxsize


class Translator:
    """Writes messages in one language: `translate("unit-trial", count=2)` is "2 trials"."""

    def __init__(self, language: str, more: str = "") -> None:
        """Read the messages of `language`; `more` are others in the same syntax.

        Raises ValueError where the syntax is wrong.
        """
        self.language = language
        functions: dict[str, Callable[..., Any]] = {
            name: partial(_call, self, write) for name, write in FUNCTIONS.items()
        }
        # Fluent would put marks around each value that keep its direction of writing apart.
        self._bundle = FluentBundle([language], functions, use_isolating=False)
        text = Path(__file__).with_name(f"{language}.ftl").read_text(encoding="utf-8")
        for resource in map(FluentResource, (text, more)):
            for entry in resource.body:
                if isinstance(entry, Junk):
                    raise ValueError(f"this is no message of Fluent: {entry.content}")
            self._bundle.add_resource(resource, allow_overrides=True)

    def __call__(self, message: str, **values: Any) -> str:
        """The text of a message with `values` in it; a value may be a Sentence.

        Raises LookupError where the message is missing, ValueError where one of its values is.
        """
        pattern = self._bundle.get_message(message).value
        assert pattern is not None, message
        wrapped = {name: self._wrap(value) for name, value in values.items()}
        text, errors = self._bundle.format_pattern(pattern, wrapped)
        if errors:
            raise ValueError(f"the message {message} cannot be written: {errors[0]}")
        return str(text)

    def _wrap(self, value: Any) -> Any:
        if isinstance(value, Sentence):
            return self.sentence(value)
        return value if isinstance(value, str) else _Value(value)

    def has_message(self, message: str) -> bool:
        """Whether the language has a message of this name."""
        return self._bundle.has_message(message)

    def sentence(self, sentence: Sentence) -> str:
        """A sentence of a finding."""
        return self(sentence.key, **sentence.values)

    def whole_sentence(self, sentence: Sentence) -> str:
        """A sentence of a finding behind its subject, if it has one."""
        text = self.sentence(sentence)
        if not sentence.head:
            return text
        return self("with-subject", subject=self.subject(sentence), text=text)

    def subject(self, sentence: Sentence) -> str:
        """What a sentence is about, its first letter large; a setting keeps its own name."""
        if not self.has_message(sentence.head):
            return sentence.head.removeprefix("factor-")
        text = self(sentence.head)
        return text[:1].upper() + text[1:]

    def column(self, name: str) -> str:
        """The title of a column; the column's own name where it has no message."""
        if self.has_message(f"column-{name}"):
            return self(f"column-{name}")
        norm, _, seed = name.partition("_s")
        if norm in ("l1", "l2") and seed[:1].isdigit():
            return self("column-norm_of_seed", norm=norm.upper(), seed=seed)
        return name

    def factor(self, names: str) -> str:
        """The name of a factor, or of several that cannot be separated, joined by "+"."""
        return ("＋" if self.language == "ja" else " + ").join(
            self(f"factor-{name}") if self.has_message(f"factor-{name}") else name
            for name in names.split("+")
        )

    def word(self, name: str) -> str:
        """What a finding calls by `name`: a response, or a kind of difference."""
        return self(f"word-{name.replace(' ', '_')}")

    def listing(self, items: Iterable[object]) -> str:
        """The items as a list: a, b and c."""
        return "、".join(map(str, items)) if self.language == "ja" else listing(items)


@cache
def translator(language: str = "en") -> Translator:
    """The translator of one of LANGUAGES."""
    assert language in LANGUAGES, language
    return Translator(language)


class _Value(FluentType):
    """A value of a message as Python has it; Fluent would write numbers in its own forms."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def format(self, locale: object) -> str:
        return MISSING if self.value is None else str(self.value)


class _Count(int, FluentType):
    """A whole number with all digits, by which Fluent chooses between singular and plural."""

    def format(self, locale: object) -> str:
        return count(self)


def _call(translate: Translator, write: Callable[..., Any], *values: Any) -> Any:
    plain = (value.value if isinstance(value, _Value) else value for value in values)
    return write(translate, *plain)


def _written(form: str) -> Callable[[Translator, float | None], str]:
    return lambda translate, value: MISSING if value is None else form.format(value)


def _percent(translate: Translator, value: float | None) -> str:
    """A share as a percentage of at most three significant digits."""
    if value is None or 5e-4 <= abs(value) < 0.9995:
        return rate(value)
    return f"{short(100 * value)} %"


def _from_to(
    write: Callable[[Translator, float], str],
) -> Callable[[Translator, float, float], str]:
    """Two values in one form as the ends of a range; one where both are written alike."""

    def written(translate: Translator, low: float, high: float) -> str:
        ends = write(translate, low), write(translate, high)
        return ends[0] if ends[0] == ends[1] else translate("range", low=ends[0], high=ends[1])

    return written


def _share(translate: Translator, value: float) -> str:
    return translate("share-little") if 0 < value < 5e-4 else rate(value)


def _first_six(translate: Translator, value: Sequence[object]) -> str:
    more = len(value) - _MOST_NAMES
    if more <= 0:
        return translate.listing(value)
    shown = translate("list-comma").join(map(str, value[:_MOST_NAMES]))
    return translate("some-more", shown=shown, more=more)


def _shares(translate: Translator, value: Sequence[tuple[str, float]]) -> str:
    return translate.listing(
        translate("share-with", share=share, factor=factor) for factor, share in value
    )


def _by_seed(translate: Translator, value: Sequence[tuple[int | str, float | None]]) -> str:
    texts = [
        translate("seed-missing", seed=seed)
        if found is None
        else translate("seed-value", value=found, seed=seed)
        for seed, found in value
    ]
    return translate("list-comma").join(texts)


def _effects(
    translate: Translator, value: Sequence[tuple[str, Sequence[tuple[str, float | None]]]]
) -> str:
    """(verdict, factors with their times), for each verdict."""
    texts = [
        translate(f"effects-{verdict}", factors=[_effect(translate, *one) for one in factors])
        for verdict, factors in value
    ]
    return translate("list-semicolon").join(texts) or translate("effects-none")


def _effect(translate: Translator, factor: str, times: float | None) -> str:
    if times is None:
        return translate.factor(factor)
    return translate("effects-times", factor=factor, times=times)


def _largest(
    translate: Translator, value: Sequence[tuple[Sequence[str], Sequence[tuple[str, float]]]]
) -> str:
    """Factors, one or several that are equal, with the spaces where their effect is the largest."""
    texts = []
    for factors, spaces in value:
        said = [translate("answer-space", space=space, times=times) for space, times in spaces]
        texts.append(translate("answer-part", factors=factors, count=len(factors), spaces=said))
    return translate("list-and").join(texts)


def _times(translate: Translator, value: float | None) -> str:
    if value is None:
        return MISSING
    return translate("effects-no_end" if math.isinf(value) else "effects-finite", times=value)


def _ratio(translate: Translator, value: float | None) -> str:
    """How much two numbers differ, out of the larger over the smaller: a factor, or a percentage
    where the factor is small."""
    if value is None:
        return MISSING
    if value < _SMALL_RATIO:
        return translate("ratio-percent", percent=100 * (value - 1))
    return translate("ratio-factor", ratio=value)


def _unassigned(translate: Translator, value: float) -> str:
    """The share of variance of no factor alone; nothing below one half of a percent."""
    if abs(value) < 5e-3:
        return ""
    message = "attribution-unassigned" if value > 0 else "attribution-overlap"
    return translate(message, share=abs(value))


FUNCTIONS: dict[str, Callable[..., Any]] = {
    "SHORT": lambda translate, value: short(value),
    "SHORTS": _from_to(lambda translate, value: short(value)),
    "COSINE": _written("{:.2f}"),
    "DEGREES": _written("{:.0f}°"),
    "COUNT": lambda translate, value: MISSING if value is None else _Count(value),
    "PERCENT": _percent,
    "PERCENTS": _from_to(_percent),
    "BASE": lambda translate, value: translate("answer-base", base=value) if value else "",
    "SHARE": _share,
    "SHARE_RANGE": _from_to(_share),
    "SETTING": lambda translate, value: setting(value),
    "FACTOR": lambda translate, value: translate.factor(value),
    "FACTORS": lambda translate, value: translate.listing(map(translate.factor, value)),
    "LIST": lambda translate, value: translate.listing(value),
    "FIRST_SIX": _first_six,
    "WORD": lambda translate, value: translate.word(value),
    "SHARES": _shares,
    "BY_SEED": _by_seed,
    "EFFECTS": _effects,
    "LARGEST": _largest,
    "EFFECT_PAIRS": lambda translate, value: translate("effects-pairs", **value),
    "TIMES": _times,
    "RATIO": _ratio,
    "SENTENCES": lambda translate, value: translate("list-sentences").join(
        map(translate.sentence, value)
    ),
    "PARTS": lambda translate, value: translate.listing(map(translate.sentence, value)),
    "ALSO": lambda translate, value: translate("floor-also", names=value) if value else "",
    "UNASSIGNED": _unassigned,
}
"""By name in a message: the form in which a value is written."""
