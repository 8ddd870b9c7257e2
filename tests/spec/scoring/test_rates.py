"""Verdicts and rates of answers, on texts whose judgement is plain."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raylab.spec.evaluation import Ending, Evaluation
from raylab.spec.scoring.rates import (
    Answer,
    Judge,
    example_of,
    judge_for,
    loop_share,
    repeated_share,
    repeats,
)
from raylab.spec.scoring.styles import in_style, sentences

GOOD = Answer("空は青いですわ。", 5, True)
LOOP = Answer("loop " * 20, 64, False)


def test_repeated_share_of_loop_is_near_one():
    assert repeated_share("です" * 30) > 0.9
    assert repeats("です" * 30)


def test_repeated_share_of_plain_sentence_is_zero():
    assert repeated_share("今日はよい天気です。") == 0
    assert repeated_share("あ") == 0


@pytest.mark.parametrize(
    ("text", "share"),
    [
        ("", 0),
        ("abcdefgh", 0),
        ("abcabcabc", 0),  # three times is no loop
        ("abcabcabcabc", 1),
        ("xyabcabcabcabcab", 14 / 16),  # cut off in the middle
        ("はははは、そうです", 0),  # not at the end
        ("そうですわああああ", 4 / 9),
    ],
)
def test_loop_share_of_a_suffix_that_repeats(text, share):
    assert loop_share(text) == pytest.approx(share)


@given(st.text("abc", min_size=1, max_size=6), st.integers(4, 9), st.text("xyz", max_size=9))
def test_loop_share_finds_every_loop_after_any_beginning(piece, times, head):
    loop = piece * times
    assert loop_share(head + loop) >= len(loop) / len(head + loop) - 1e-12


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("空は青いですわ。", True),
        ("空は青いです。", False),
        ("そうですわ。はい。", True),
        ("そうですわ。はい。いいえ。", False),
        ("", False),
        ("お元気ですの？", True),
        ("行きませんこと？", True),
        ("ここは", False),
    ],
)
def test_in_style_ojousama_counts_half_of_the_sentences(text, expected):
    assert in_style(text, "ojousama") is expected


def test_sentences_strip_punctuation_and_quotes():
    assert sentences("「はい。」そうです！\nええ") == ["はい", "そうです", "ええ"]


def test_style_of_the_studys_own_is_held_to_the_end_of_sentences():
    judge = judge_for(Evaluation(style=Ending(ending="にゃ|にゃん")), [])
    said = {
        text: judge.verdicts(Answer(text, 1, True))["style"] for text in ("猫だにゃ。", "にゃ猫")
    }
    assert said == {"猫だにゃ。": True, "にゃ猫": False}


def test_ending_that_is_no_expression_is_refused():
    with pytest.raises(ValueError, match="no regular expression"):
        Ending(ending="(")


def test_rates_over_answers_are_shares():
    found = Judge("ojousama").rates([GOOD, LOOP])
    assert found == {
        "japanese_rate": 0.5,
        "stopped_rate": 0.5,
        "repetition_rate": 0.5,
        "style_rate": 0.5,
        "distinct_rate": 1,
        "answer_length": (8 + 100) / 2,
        "answer_tokens": 34.5,
    }


def test_rates_of_nothing_are_null():
    assert set(Judge("ojousama").rates([]).values()) == {None}
    assert Judge().rates([GOOD])["style_rate"] is None


@pytest.mark.parametrize(
    ("rate", "example"),
    [
        ("japanese_rate", LOOP.text),
        ("stopped_rate", LOOP.text),
        ("repetition_rate", LOOP.text),
        ("style_rate", LOOP.text),
        ("distinct_rate", None),
    ],
)
def test_example_of_a_rate_is_an_answer_that_spoils_it(rate, example):
    judge = Judge(re.compile("ですわ"))
    assert example_of(judge, [GOOD, LOOP], rate) == example
    assert example_of(judge, [LOOP, LOOP], "distinct_rate") == LOOP.text
