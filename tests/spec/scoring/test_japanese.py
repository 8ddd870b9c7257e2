"""Japanese or not, on texts whose judgement is plain, and on noise that is drawn."""

from __future__ import annotations

import random

import pytest

from raylab.spec.scoring.japanese import CharacterPairs, is_in_script, is_japanese, share_of_grammar
from tests.spec.texts import answers_of

KANA = [chr(code) for code in range(0x3041, 0x3094)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("空は青いです。", True),
        ("The sky is blue.", False),
        ("学校", False),
        ("", False),
        ("はい、OKです", True),
        ("12345", False),
        ("コーヒー", True),
        ("ミヌゼカタピョロヘユテヲノ", False),
        ("昨日は友達と映画を見に行った。", True),
        ("天空是蓝色的因为散射的光", False),
    ],
)
def test_is_japanese_by_script_judges(text, expected):
    assert is_japanese(text) is expected


@pytest.mark.parametrize(
    "text",
    [
        "いのたてにすをはがでしなれ",
        "ぬぺるゎゑぢひむせゅぐみほそ",
        "のののののののののののののの",
        "あいうえおかきくけこさしすせそ",
    ],
)
def test_kana_noise_is_in_script_and_is_not_japanese(text):
    assert is_in_script(text)
    assert not is_japanese(text)


@pytest.mark.parametrize(
    "text",
    [
        "空が青く見えるのは、光の散乱によるものですわ。",
        "カレーは、玉ねぎをよく炒めてから煮込むとおいしくなります。",
        "ねこはかわいい。",
        "Pythonで書けますよ。まずはインストールしてください。",
    ],
)
def test_sentences_by_hand_are_japanese_also_by_neighbours(text):
    assert is_japanese(text)
    assert is_japanese(text, CharacterPairs.learned(answers_of("d0") + answers_of("d1")))


def test_neighbours_learned_on_some_answers_know_the_others_and_no_noise():
    learned = CharacterPairs.learned(answers_of("d0")[:300] + answers_of("d1")[:300])
    others = answers_of("d0")[300:] + answers_of("d1")[300:]
    assert sum(is_japanese(text, learned) for text in others) >= 0.95 * len(others)
    draws = random.Random(7)
    noise = ["".join(draws.choices(KANA, k=30)) for _ in range(100)]
    assert not any(is_japanese(text, learned) for text in noise)
    shuffled = ["".join(draws.sample(text, len(text))) for text in others]
    assert sum(is_japanese(text, learned) for text in shuffled) <= 0.3 * len(shuffled)


def test_neighbours_of_few_or_of_english_answers_are_not_learned():
    assert CharacterPairs.learned(answers_of("d0")[:20]) is None
    assert CharacterPairs.learned(["The sky is blue because of scattering."] * 500) is None


def test_words_share_counts_hiragana_in_words():
    assert share_of_grammar("空です") == 1
    assert share_of_grammar("ぬぬぬぬです") == pytest.approx(1 / 3)
    assert share_of_grammar("漢字") == 1
