"""Is a text Japanese: by its script, and by more than its script.

Model: three looks. Script: at least half of the letters are kana or kanji, and a tenth of them
hiragana. Words: of its hiragana at least a fifth lies in the particles, auxiliaries and endings
of WORDS, without which no Japanese sentence of some length does. CharacterPairs: where a study has
answers enough to learn from, characters follow each other as they do there, to within half a nat
of chance: the mean over neighbours a, b of log p(b | a) / p(b), 0 for characters drawn one by one
and less for noise. Kanji count as one character, and katakana as another.
Invariant: pure functions of the text and of the learned pairs; a text with fewer than LEAST
hiragana or LEAST_LETTERS letters is judged by its script alone.

Measured on the demo's 814 answers and on 300 rows of 24 random tokens: 99.5 % of the answers are
Japanese and 24 % of the noise (rows of few hiragana); of random kana, none.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise

LEAST, LEAST_LETTERS = 6, 8
"""Hiragana and letters, before more than the script is judged: a short sentence may do without
such words."""
_LEAST_PAIRS = 2_000
"""CharacterPairs to learn from, before they are asked."""
_WORDS_SHARE, _CHANCE = 0.2, -0.5
_PRIOR = 5.0
"""CharacterPairs that each character is taken to have had by chance."""
_SYMBOLS = 120

_LISTED = """
です ます でした ました ません ましょう でしょう だった である ください たい ない なかっ なけれ
なら なり なる なっ から まで より だけ など ほど くらい ぐらい しか さえ でも では には とは
へは にも とも ても ては のに ので のは のが のを のも こと もの とき ところ ため よう そう どう
こう ああ その この あの どの それ これ あれ どれ そこ ここ どこ いつ だれ なに なぜ する した
して しま しい すれ され させ できる でき いる いた いて います ある あり あっ という といった
って かった たり ながら けど けれど しかし また まだ もう とても すぐ よく たく さん ちゃん くん
かも わけ はず つもり れる られ れば せる てい てある てお てく てみ てし んだ んです かし わよ
わね ですわ ますわ ですの ますの まし ませ わたくし みんな みたい らしい やすい にくい おい
ありがとう こんにち おは おり ござい いただ くれ あげ もらい はい いいえ うん ええ ねえ よね
だよ だね わたし あなた かれ かの ほう ほか うち たち たら だら いく いき いっ いう しょう うな
うと くて くな きま きた くる きて りま った りし もち みる みま める めて べる べて について
によって として
"""
WORDS = frozenset(_LISTED.split())
_WORD = re.compile("|".join(sorted(WORDS, key=len, reverse=True)))


def _is_hiragana(character: str) -> bool:
    return "\u3041" <= character <= "\u3096"


def _is_katakana(character: str) -> bool:
    return "\u30a1" <= character <= "\u30ff"


def _is_kanji(character: str) -> bool:
    return character == "々" or "CJK UNIFIED" in unicodedata.name(character, "")


def is_in_script(text: str) -> bool:
    """At least half of the letters are kana or kanji; of some length, a tenth are hiragana."""
    letters = [character for character in text if character.isalpha()]
    hiragana, katakana, kanji = (
        sum(map(rule, letters)) for rule in (_is_hiragana, _is_katakana, _is_kanji)
    )
    is_spoken = 10 * hiragana >= len(letters) if len(letters) > LEAST else hiragana + katakana > 0
    return is_spoken and 2 * (hiragana + katakana + kanji) >= len(letters)


def share_of_grammar(text: str) -> float:
    """The share of the text's hiragana that lies in words of WORDS; 1 where it has none."""
    hiragana = sum(map(_is_hiragana, text))
    return sum(map(len, _WORD.findall(text))) / hiragana if hiragana else 1.0


@dataclass(frozen=True)
class CharacterPairs:
    """How often characters follow each other: `firsts`, `seconds` and `pairs` as counted."""

    firsts: Counter[str]
    seconds: Counter[str]
    pairs: Counter[tuple[str, str]]

    @classmethod
    def learned(cls, texts: Iterable[str]) -> CharacterPairs | None:
        """The character pairs of `texts`; None where too few of them are in Japanese script."""
        found = cls(Counter(), Counter(), Counter())
        for text in filter(is_in_script, texts):
            symbols = _symbols(text)
            found.firsts.update(symbols[:-1])
            found.seconds.update(symbols[1:])
            found.pairs.update(pairwise(symbols))
        return found if found.pairs.total() >= _LEAST_PAIRS else None

    def score(self, text: str) -> float:
        """The mean of log p(b | a) / p(b) over neighbours, in nats; 0 for an empty text."""
        ratios = [self._log_ratio(a, b) for a, b in pairwise(_symbols(text))]
        return math.fsum(ratios) / len(ratios) if ratios else 0.0

    def _log_ratio(self, a: str, b: str) -> float:
        chance = (self.seconds[b] + 1) / (self.seconds.total() + _SYMBOLS)
        return math.log((self.pairs[a, b] / chance + _PRIOR) / (self.firsts[a] + _PRIOR))


def _symbols(text: str) -> list[str]:
    return ["。", *(_symbol(character) for character in text if not character.isspace())]


def _symbol(character: str) -> str:
    if _is_hiragana(character):
        return character
    if _is_katakana(character):
        return "カ"
    if _is_kanji(character):
        return "漢"
    return "a" if character.isalnum() else "。"


def is_japanese(text: str, neighbours: CharacterPairs | None = None) -> bool:
    """Whether `text` is Japanese, by script, by words, and by `neighbours` where they are known."""
    if not is_in_script(text):
        return False
    if sum(map(_is_hiragana, text)) < LEAST or sum(map(str.isalpha, text)) < LEAST_LETTERS:
        return True
    is_noise = neighbours is not None and neighbours.score(text) < _CHANCE
    return not is_noise and share_of_grammar(text) >= _WORDS_SHARE
