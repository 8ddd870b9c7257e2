"""Japanese text -> morphemes with the little grammar that endings need, by SudachiPy.

Model: SudachiPy with its small dictionary tells words, parts of speech and inflections. A
morpheme has one kind, a word of KINDS, which is what rules speak of; from a verb's dictionary
form and class come the stems before ます and before ない.
Invariant: the surfaces joined are the text. A verb whose stem is not known for sure is of the
kind "other", which no rule matches.
Why SudachiPy: Apache-2.0 like its dictionary, kept up by its makers, wheels for all platforms,
115 MB installed and loaded in a moment; Janome is 203 MB of Python and slower by far, and
unidic-lite has stood still since 2020 and is built on installation.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass, replace
from typing import Any

from raylab.conversion.passages import is_hidden
from raylab.errors import InputError

_U, _I, _A = "うくすつぬふむるぐぶ", "いきしちにひみりぎび", "わかさたなはまらがば"
_HONORIFIC = ("くださる", "下さる", "なさる", "いらっしゃる", "おっしゃる", "ござる")
_NOMINAL_ADVERBS = ("そう", "こう", "どう", "もちろん")
_ADJECTIVES = ("くだら", "つまら", "たまら")
_AUXILIARIES = {
    "助動詞-マス": "masu",
    "助動詞-デス": "desu",
    "助動詞-タ": "ta",
    "助動詞-ナイ": "nai",
    "助動詞-ヌ": "nu",
    "助動詞-タイ": "adj",
    "助動詞-ラシイ": "adj",
}
_CLASSES = ("五段", "上一段", "下一段", "サ行変格", "カ行変格", "助動詞-レル", "助動詞-セル")
_FORMS = {"意志推量形": "vol", "命令形": "imp", "終止形": "end", "連体形": "end"}
_PARTS = {
    "名詞": "noun",
    "代名詞": "noun",
    "形状詞": "noun",
    "接尾辞": "noun",
    "動詞": "verb",
    "形容詞": "adj",
}


@dataclass(frozen=True)
class Morpheme:
    """A word in its sentence."""

    surface: str
    kind: str
    """masu, desu, da, de, ta, nai, nu, verb, adj, noun, final (particle), te, or other."""
    form: str
    """end, vol (let us), imp (do!), or empty for what something must follow."""
    part: str
    base: str
    inflection: str

    @property
    def polite(self) -> str:
        """The verb before ます: 行き, 食べ, し."""
        if self.base in _HONORIFIC:
            return self.base[:-1] + "い"
        return self._stem(_I, "し", "き")

    @property
    def negative(self) -> str:
        """The verb before ない: 行か, 食べ, し."""
        return self._stem(_A, "し", "こ")

    def _stem(self, row: str, suru: str, kuru: str) -> str:
        if self.inflection.startswith("五段"):
            return self.base[:-1] + row[_U.index(self.base[-1])]
        if self.inflection.startswith("サ行変格"):
            return self.base[:-2] + {"する": suru, "ずる": "じ"}[self.base[-2:]]
        if self.inflection.startswith("カ行変格") and self.base.endswith("くる"):
            return self.base[:-2] + kuru
        return self.base[:-1]


def morphemes(text: str) -> list[Morpheme]:
    """The morphemes of a sentence without its full stop. Raises InputError without SudachiPy."""
    # A full stop makes words at the end parse as final words: しよう is not 仕様.
    found = [_morpheme(item) for item in _tokenizer().tokenize(text + "。")][:-1]
    # Adjectives that parse as a verb and ない: くだらない is not the negative of 下る.
    for at in range(1, len(found)):
        if found[at].kind == "nai" and found[at - 1].surface in _ADJECTIVES:
            whole = found[at - 1].surface + found[at].surface
            found[at - 1] = Morpheme("", "other", "", "", "", "")
            found[at] = Morpheme(whole, "adj", found[at].form, "形容詞", whole, "形容詞")
    assert "".join(item.surface for item in found) == text
    return found


@functools.cache
def _tokenizer() -> Any:
    try:
        from sudachipy import Dictionary, SplitMode
    except ImportError as error:
        raise InputError(
            "SudachiPy is not installed, which tells Japanese words apart",
            expected="the extra `japanese`",
            todo="pip install -c constraints.txt 'raylab[japanese]'",
        ) from error
    return Dictionary(dict="small").tokenizer(mode=SplitMode.A)


def _morpheme(item: Any) -> Morpheme:
    part, second, *_, inflection, form = item.part_of_speech()
    word = Morpheme(
        surface=item.surface(),
        kind="other",
        form=_FORMS.get(form.split("-")[0], ""),
        part=part,
        base=item.dictionary_form(),
        inflection=inflection,
    )
    return replace(word, kind=_kind(word, second))


def _kind(word: Morpheme, second: str) -> str:
    if is_hidden(word.surface) or second == "準体助詞" or word.base in _NOMINAL_ADVERBS:
        return "noun"
    if word.inflection == "助動詞-ダ" or (second == "格助詞" and word.surface == "で"):
        return "de" if word.surface in ("で", "じゃ") else "da"
    if second == "終助詞":
        return "final"
    if second == "接続助詞" and word.surface in ("て", "で"):
        return "te"
    if word.part == "形容詞" and word.base in ("ない", "無い"):
        return "none"
    if word.inflection in _AUXILIARIES:
        return _AUXILIARIES[word.inflection]
    if word.part == "助動詞" and word.inflection.startswith(_CLASSES):
        return "verb" if _is_known(word) else "other"
    kind = _PARTS.get(word.part, "other")
    return "other" if kind == "verb" and not _is_known(word) else kind


def _is_known(word: Morpheme) -> bool:
    """Whether the dictionary form is written as the surface is, in a class with known stems."""
    if not word.inflection.startswith(_CLASSES) or word.base[-1:] not in [*_U]:
        return False
    if word.inflection.startswith("サ行"):
        return word.base.endswith(("する", "ずる"))
    return word.base[0] == word.surface[0] or word.base in ("くる", "来る")
