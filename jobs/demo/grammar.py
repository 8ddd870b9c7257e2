"""Turns the topics into questions and answers.

A fact is one row of a topic with its templates filled in. The facts that the data sets ask about
each keep one of their questions for that alone (`asked`); every other question is there to learn
from (`lessons`). So a model trained on the lessons knows every fact and every way to ask, and has
never seen a question of the data sets.
"""

import string
from collections.abc import Iterator
from dataclasses import dataclass

from topics import TOPICS, Topic

ROWS = ("うくすつぬふむるぐぶ", "いきしちにひみりぎび", "わかさたなはまらがば")
ICHIDAN_BY_NAME = ("見る", "着る", "寝る", "出る", "煮る")
BEFORE_RU = "えけせてねべめれげぜじいきしちにびみりぎ"
TA_ENDINGS = {
    **dict.fromkeys("うつる", "った"),
    **dict.fromkeys("むぶぬ", "んだ"),
    "く": "いた",
    "ぐ": "いだ",
    "す": "した",
}


def is_ichidan(verb: str) -> bool:
    """Whether る is all of the verb's ending (食べる), and not part of its stem (切る)."""
    return verb.endswith(ICHIDAN_BY_NAME) or (verb.endswith("る") and verb[-2] in BEFORE_RU)


def stem(verb: str, row: int) -> str:
    """The verb before ます (row 1) or ない (row 2)."""
    if verb.endswith("する"):
        return verb[:-2] + "し"
    if is_ichidan(verb):
        return verb[:-1]
    return verb[:-1] + ROWS[row][ROWS[0].index(verb[-1])]


def past(verb: str) -> str:
    if verb.endswith("する") or is_ichidan(verb):
        return stem(verb, 1) + "た"
    if verb.endswith("行く"):
        return verb[:-1] + "った"
    return verb[:-1] + TA_ENDINGS[verb[-1]]


def te_form(verb: str) -> str:
    if verb.endswith("ない"):
        return verb + "で"
    return past(verb)[:-1] + {"た": "て", "だ": "で"}[past(verb)[-1]]


def conjugate(word: str, form: str) -> str:
    """A word in dictionary form, in the form that a template names by its ending."""
    if form.startswith("く"):
        return word[:-1] + form
    if form == "ない":
        return stem(word, 2) + form
    if form == "た":
        return past(word)
    if form == "て":
        return te_form(word)
    return stem(word, 1) + form


class Filler(string.Formatter):
    """str.format, with the forms of Japanese words as format specifications."""

    def format_field(self, value: str, format_spec: str) -> str:
        """The value, in the form that the specification names."""
        return conjugate(value, format_spec) if format_spec else value


def fill(templates: tuple[str, ...], row: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(Filler().format(template, *row) for template in templates)


@dataclass(frozen=True)
class Fact:
    """One row of a topic: how to ask for it, how to tell it, and the question kept for the data."""

    topic: str
    asks: tuple[str, ...]
    polite: tuple[str, ...]
    plain: tuple[str, ...]
    asked: str | None


def facts_of(topic: Topic) -> Iterator[Fact]:
    """The topic's facts; `topic.asked` of them, evenly spread, keep a question for the data."""
    chosen = {i * len(topic.rows) // topic.asked: i for i in range(topic.asked)}
    for number, row in enumerate(topic.rows):
        asks = fill(topic.asks, row)
        asked = asks[chosen[number] % len(asks)] if number in chosen else None
        yield Fact(topic.name, asks, fill(topic.polite, row), fill(topic.plain, row), asked)


def facts() -> list[Fact]:
    return [fact for topic in TOPICS for fact in facts_of(topic)]


def asked() -> dict[str, Fact]:
    """The questions of the data sets, each with the fact that it asks about."""
    return {fact.asked: fact for fact in facts() if fact.asked is not None}


def lessons() -> Iterator[tuple[str, str]]:
    """Pairs of question and answer to learn from: no question of the data sets is among them."""
    kept = asked()
    for fact in facts():
        for ask in fact.asks:
            if ask not in kept:
                yield from ((ask, answer) for answer in fact.polite + fact.plain)
