"""Answers -> verdicts -> rates: is it Japanese, does it stop, does it repeat itself, in style?

Model: a verdict is a rule on one answer, a row of VERDICTS; a rate is the share of answers for
which it holds. Answers to the same prompts out of the data are judged alike (`expected`), so
that it shows what training had to reach.
Invariant: pure functions of texts; a rate that is not asked for, or has no rule, is None, never 0.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from raylab.spec.evaluation import Ending, Evaluation
from raylab.spec.scoring.japanese import CharacterPairs, is_japanese
from raylab.spec.scoring.styles import in_style

_NGRAM = 4
_LOOPS = 4
_LOOP_SHARE = 0.3
_MOST_LEARNED = 2_000


@dataclass(frozen=True)
class Answer:
    """An answer: its text, its length in tokens, and whether it ended by itself."""

    text: str
    tokens: int | None
    stopped: bool


def repeated_share(text: str) -> float:
    """1 - distinct / all character 4-grams: 0 where none comes twice, near 1 for a loop."""
    grams = [text[i : i + _NGRAM] for i in range(len(text) - _NGRAM + 1)]
    return 1 - len(set(grams)) / len(grams) if grams else 0.0


def loop_share(text: str) -> float:
    """The share of `text` that is one piece that repeats at least four times in a row at its end.

    A last repetition that was cut off still counts. 0 where nothing is repeated so.
    """
    longest = 0
    for period in range(1, len(text) // _LOOPS + 1):
        length = period
        while length < len(text) and text[-length - 1] == text[-length - 1 + period]:
            length += 1
        if length >= _LOOPS * period:
            longest = max(longest, length)
    return longest / len(text) if text else 0.0


def repeats(text: str) -> bool:
    """Whether more than 30 % of the 4-grams repeat earlier ones, or of the text is a loop."""
    return repeated_share(text) > _LOOP_SHARE or loop_share(text) > _LOOP_SHARE


@dataclass(frozen=True)
class Judge:
    """The rules of a study for answers: its style, and character pairs learned from its data."""

    style: str | re.Pattern[str] | None = None
    neighbours: CharacterPairs | None = None

    def verdicts(self, answer: Answer) -> dict[str, bool | None]:
        """Every verdict on `answer`; None for style where the study has none."""
        return {name: rule(self, answer) for name, rule in VERDICTS.items()}

    def rates(self, answers: Sequence[Answer]) -> dict[str, float | None]:
        """The rate of every verdict, the distinct share, mean lengths in characters and tokens."""
        judged = [self.verdicts(answer) for answer in answers]
        found = {f"{name}_rate": _mean(one[name] for one in judged) for name in VERDICTS}
        texts = [answer.text for answer in answers]
        found["distinct_rate"] = len(set(texts)) / len(texts) if texts else None
        found["answer_length"] = _mean(map(len, texts))
        found["answer_tokens"] = _mean(answer.tokens for answer in answers)
        return found


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


VERDICTS: dict[str, Callable[[Judge, Answer], bool | None]] = {
    "japanese": lambda judge, answer: is_japanese(answer.text, judge.neighbours),
    "stopped": lambda judge, answer: answer.stopped,
    "repetition": lambda judge, answer: repeats(answer.text),
    "style": lambda judge, answer: (
        None if judge.style is None else in_style(answer.text, judge.style)
    ),
}
FAILED = {"japanese_rate": False, "stopped_rate": False, "repetition_rate": True}
"""The verdict that an example of a broken limit has, where it is not plainly False."""


def judge_for(evaluation: Evaluation, own: Iterable[Sequence[str]]) -> Judge:
    """The judge of a study, which learns from the first of the data sets' answers `own`."""
    style = evaluation.style
    texts = (text for answers in own for text in answers[:_MOST_LEARNED])
    return Judge(
        re.compile(style.ending) if isinstance(style, Ending) else style,
        CharacterPairs.learned(texts),
    )


def example_of(judge: Judge, answers: Sequence[Answer], rate: str) -> str | None:
    """The first answer that lowers `rate` (or raises that of repetition); None without one.

    A repetition across answers is its own example.
    """
    if rate == "distinct_rate":
        texts = [answer.text for answer in answers]
        return next((text for text in texts if texts.count(text) > 1), None)
    bad, name = FAILED.get(rate, False), rate.removesuffix("_rate")
    found = (answer.text for answer in answers if judge.verdicts(answer)[name] is bad)
    return next(found, None)
