"""The rates of answers, on texts whose judgement is plain."""

from __future__ import annotations

import pytest

from raylab.spec.styles import in_style, sentences
from raylab.train.checks import Sample, is_japanese, rates, repeated_share, repeats


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("空は青いです。", True),
        ("The sky is blue.", False),
        ("学校", False),
        ("", False),
        ("はい、OKです", True),
        ("12345", False),
    ],
)
def test_is_japanese_by_script_judges(text, expected):
    assert is_japanese(text) is expected


def test_repeated_share_of_loop_is_near_one():
    assert repeated_share("です" * 30) > 0.9
    assert repeats("です" * 30)


def test_repeated_share_of_plain_sentence_is_zero():
    assert repeated_share("今日はよい天気です。") == 0
    assert repeated_share("あ") == 0


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


def test_rates_over_samples_are_shares():
    samples = [
        Sample("p", "空は青いですわ。", "e", 5, True),
        Sample("q", "loop " * 20, "e", 64, False),
    ]
    found = rates(samples, "ojousama")
    assert found["japanese_rate"] == 0.5
    assert found["stopped_rate"] == 0.5
    assert found["repetition_rate"] == 0.5
    assert found["style_rate"] == 0.5
    assert found["distinct_rate"] == 1


def test_rates_of_nothing_are_null():
    assert set(rates([], "ojousama").values()) == {None}
    assert rates([Sample("p", "a", "e", 1, True)], None)["style_rate"] is None
