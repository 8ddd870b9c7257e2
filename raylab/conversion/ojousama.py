"""Ordinary Japanese -> "ojousama" speech, as a noble lady in fiction talks, by rules.

Model: a sentence is head, predicate and final particles. Three tables rewrite it: PREDICATES
make the predicate polite (行かなかった -> 行きませんでした), TONES say what the final particles
mean (かな wonders, よ tells), and ENDINGS put the lady's ending on the polite form (ませんでした
-> ませんでしたわ). Orders, proposals, guesses and set phrases have rules of their own. Words such
as 私 are replaced before, where they are words and no parts of others (私立).
Left alone: code, addresses, formulas, and all that is quoted or in brackets; clauses inside a
sentence; sentences that end in a fragment (は, から, て); nouns without a full stop behind them,
as in lists and headings; what is in the style already.
Invariant: a rewritten sentence ends as DONE says, and a sentence that does is not rewritten, so
converting twice is converting once. Digits, Latin and katakana stay, in their order, and so does
all punctuation.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from raylab.conversion.morphemes import Morpheme, morphemes
from raylab.conversion.passages import ProtectedText

Words = Sequence[Morpheme]

# The kinds (or dictionary forms) that end a sentence, and their polite form; the first that fits.
PREDICATES: tuple[tuple[str, str], ...] = (
    ("masu nu desu ta", "{0.surface}んでした"),  # 行きませんでした
    ("masu nu", "{0.surface}ん"),  # 行きません
    ("masu ta", "{0.surface}た"),  # 行きました
    ("masu", "ます"),  # 行きます
    ("desu ta", "でした"),  # 学生でした
    ("desu", "です"),  # 学生です
    ("verb nai ta", "{0.polite}ませんでした"),  # 行かなかった
    ("verb nai", "{0.polite}ません"),  # 行かない
    ("verb nu", "{0.polite}ません"),  # 行かぬ
    ("none ta", "ありませんでした"),  # 寒くなかった
    ("none", "ありません"),  # 学生ではない
    ("adj ta", "{0.surface}{1.surface}です"),  # 寒かった
    ("adj", "{0.surface}です"),  # 寒い
    ("da ta", "でした"),  # 学生だった
    ("da", "です"),  # 学生だ; 学生な(の)
    ("de ある ta", "でした"),  # 学生であった
    ("de ある", "です"),  # 学生である
    ("verb ta", "{0.polite}ました"),  # 行った
    ("verb", "{0.polite}ます"),  # 行く
    ("noun", "{0.surface}です"),  # 体言止め
)

TONES: dict[str, str] = {
    "": "tell",
    **dict.fromkeys(("よ", "ぞ", "ぜ", "さ", "のよ", "のさ", "もん", "もの"), "stress"),
    **dict.fromkeys(("ね", "ねえ", "ねぇ", "な", "なあ", "なぁ", "よね", "よな", "のね"), "agree"),
    **dict.fromkeys(("か", "かい", "だい"), "ask"),
    **dict.fromkeys(("の", "のか", "のかい"), "explain"),
    **dict.fromkeys(("かな", "かなあ", "かなぁ", "かね", "かしら", "のかな"), "wonder"),
    "っけ": "recall",
}

ENDINGS: dict[str, tuple[tuple[str, str], ...]] = {
    "tell": (("", "わ"),),
    "stress": (("", "わよ"),),
    "agree": (("", "わね"),),
    "ask": (("ません", "こと"), ("", "の")),
    "explain": (("", "の"),),
}

DONE = re.compile(
    r"(?:です|でした|ます|ました|ません)(?:わ[よね]?|の)$"
    r"|ませんこと$|(?:ください|下さい|なさい|らっしゃい)まし$|かしら$|ごきげんよう$|あそばせ$"
)

PHRASES = {
    **dict.fromkeys(("こんにちは", "こんばんは", "さようなら", "おはよう"), "ごきげんよう"),
    "おはようございます": "ごきげんよう",
    "いってらっしゃい": "いってらっしゃいまし",
    "ありがとう": "ありがとうございますわ",
    "すみません": "申し訳ございませんわ",
    **dict.fromkeys(("ごめん", "ごめんなさい"), "ごめんあそばせ"),
}

_ME = ("私", "わたし", "あたし", "僕", "ぼく", "俺", "おれ")
_YOU = ("君", "きみ", "お前", "おまえ", "あんた")
WORDS: dict[tuple[str, str], str] = {
    **{("代名詞", word): "わたくし" for word in _ME},
    **{("代名詞", word): "あなた" for word in _YOU},
    ("感動詞", "はい"): "ええ",
    ("感動詞", "うん"): "ええ",
    ("副詞", "とても"): "とっても",
}
_RELATIVES = re.compile("お(父|母|兄|姉|爺|婆|じい|ばあ|じ|ば)さん")
_QUESTIONS = ("何", "誰", "どこ", "いつ", "どれ", "どちら", "なぜ", "どう", "いくつ", "いくら")
_ORDERS = {"くださる": "ください", "下さる": "下さい", "なさる": "なさい", "くれる": "ください"}
# SudachiPy takes 49,149 bytes at once; nothing that long is a sentence.
_LONGEST = 10_000
_JAPANESE = re.compile("[ぁ-ゖァ-ヺ一-鿿々]")
_STOP = re.compile("[。．！？!?]")
_ASKS = re.compile("[？?]")


def ojousama(text: str) -> str:
    """`text` in ojousama speech."""
    return ProtectedText(text).rewrite(_sentence)


def _sentence(core: str, tail: str) -> str:
    if not _JAPANESE.search(core) or len(core) > _LONGEST:
        return core + tail
    if core in PHRASES:
        return PHRASES[core] + tail
    return _reworded(_ended(_reworded(core), tail)) + tail


def _reworded(core: str) -> str:
    """`core` with the lady's words; again until none is left, since words move one another."""
    while True:
        words = (WORDS.get((w.part, w.surface), w.surface) for w in morphemes(core))
        found = _RELATIVES.sub(r"お\1さま", "".join(words))
        if found == core:
            return core
        core = found


def _ended(core: str, tail: str) -> str:
    """`core` with the lady's ending; the same where no rule fits."""
    if DONE.search(core):
        return core
    words = morphemes(core)
    end = len(words)
    while end and _is_particle(words, end):
        end -= 1
    particles = "".join(word.surface for word in words[end:])
    tone = TONES.get(particles)
    if tone is None or not end:
        return core
    if tone == "tell" and (_ASKS.search(tail) or words[end - 1].surface in _QUESTIONS):
        tone = "ask"
    for rule in (_prohibited, _ordered, _proposed, _guessed, _requested, _stated):
        ending = rule(words[:end], particles, tone, bool(_STOP.search(tail)))
        if ending is not None:
            return ending
    return core


def _is_particle(words: Words, end: int) -> bool:
    word = words[end - 1]
    if word.kind == "final":
        return True
    return word.surface == "の" and word.kind == "noun" and end > 1


def _text(words: Words) -> str:
    return "".join(word.surface for word in words)


def _prohibited(words: Words, particles: str, tone: str, stops: bool) -> str | None:
    """行くな -> 行かないでくださいまし"""
    if particles == "な" and words[-1].kind == "verb" and words[-1].form == "end":
        return f"{_text(words[:-1])}{words[-1].negative}ないでくださいまし"
    return None


def _ordered(words: Words, particles: str, tone: str, stops: bool) -> str | None:
    """行け -> 行きなさいまし, 見てください and 見てくれ -> 見てくださいまし"""
    last = words[-1]
    if last.form != "imp" or tone not in ("tell", "stress", "agree", "ask"):
        return None
    if last.kind == "masu":
        return _text(words[:-1]) + "まし" if last.surface == "ませ" else None
    if last.base in _ORDERS:
        return f"{_text(words[:-1])}{_ORDERS[last.base]}まし"
    if last.base == "いらっしゃる":
        return f"{_text(words)}まし"
    return f"{_text(words[:-1])}{last.polite}なさいまし" if last.kind == "verb" else None


def _proposed(words: Words, particles: str, tone: str, stops: bool) -> str | None:
    """行こう and 行きましょう -> 行きましょうですわ, 行きましょうか -> 行きましょうかしら"""
    last = words[-1]
    if last.form != "vol" or last.kind not in ("verb", "masu"):
        return None
    verb = last.polite if last.kind == "verb" else ""
    ending = {"ask": "かしら", "wonder": "かしら", "stress": "ですわよ", "agree": "ですわね"}
    return f"{_text(words[:-1])}{verb}ましょう{ending.get(tone, 'ですわ')}"


def _guessed(words: Words, particles: str, tone: str, stops: bool) -> str | None:
    """雨でしょう -> 雨だと思いますわ, 雨だろうか -> 雨かしら, 雨でしょうね -> 雨ですわね"""
    last, before = words[-1], words[:-1]
    if last.form != "vol" or last.kind not in ("desu", "da") or not before:
        return None
    nominal = before[-1].kind in ("noun", "other")
    if tone == "agree" or (tone == "ask" and "か" not in particles):
        return _text(before) + ("ですわね" if nominal else "のですわね")
    if tone in ("ask", "wonder"):
        return _text(before) + "かしら"
    return _text(before) + ("だと思いますわ" if nominal else "と思いますわ")


def _requested(words: Words, particles: str, tone: str, stops: bool) -> str | None:
    """待ってね -> 待ってくださいまし, 行かないで -> 行かないでくださいまし"""
    if words[-1].kind != "te" or len(words) < 2:
        return None
    asked = tone in ("agree", "stress") or (words[-2].kind == "nai" and stops)
    return f"{_text(words)}くださいまし" if asked else None


def _stated(words: Words, particles: str, tone: str, stops: bool) -> str | None:
    """Everything else: the predicate made polite, and the ending of its tone."""
    for kinds, polite in PREDICATES:
        wanted = kinds.split()
        matched = words[-len(wanted) :]
        if len(matched) == len(wanted) and all(map(_fits, matched, wanted)):
            ending = _with_ending(matched, polite, tone, particles, stops or bool(particles))
            return None if ending is None else _text(words[: -len(wanted)]) + ending
    return None


def _fits(word: Morpheme, wanted: str) -> bool:
    return wanted in (word.kind, word.base)


def _with_ending(matched: Words, polite: str, tone: str, particles: str, stops: bool) -> str | None:
    last = matched[-1]
    if not (stops if last.kind == "noun" else last.form == "end"):
        return None
    whole = polite.format(*matched)
    if tone == "recall":
        return f"{whole}かしら".replace("ですかしら", "でしたかしら")
    if tone == "wonder":
        plain = "" if last.kind in ("da", "desu") else _text(matched)
        return f"{plain}{'の' if particles[0] == 'の' else ''}かしら"
    ending = next(after for before, after in ENDINGS[tone] if whole.endswith(before))
    return whole + ending
