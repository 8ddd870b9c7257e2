"""Ordinary Japanese into ojousama speech, held against sentences that were checked by hand."""

import json
import re
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raylab.conversion.morphemes import morphemes
from raylab.conversion.ojousama import PREDICATES, TONES, ojousama
from raylab.conversion.passages import ProtectedText
from raylab.spec.scoring.styles import in_style

HERE = Path(__file__).parent
DEMO = HERE.parents[1] / "jobs" / "demo" / "data"
CASES = [
    tuple(field.replace("\\n", "\n") for field in line.split("\t"))
    for line in (HERE / "ojousama.tsv").read_text(encoding="utf-8").splitlines()
    if not line.startswith("#")
]
RULES = Counter(rule for rule, _, _ in CASES)
UNTOUCHED = re.compile(r"[0-9A-Za-zァ-ヺ一-鿿。、！？「」『』（）\n]")
REPLACED = re.compile("[私僕俺君申訳思]")  # in words and endings that come and go


@pytest.mark.parametrize(("rule", "ordinary", "expected"), CASES)
def test_sentence_checked_by_hand_comes_out(rule, ordinary, expected):
    assert ojousama(ordinary) == expected
    assert ojousama(expected) == expected


def test_sentences_checked_by_hand_are_many_and_cover_the_rules():
    assert len(CASES) >= 150
    assert len({ordinary for _, ordinary, _ in CASES}) == len(CASES)
    assert min(RULES.values()) >= 1
    assert len(RULES) >= 20
    assert set(TONES.values()) == {"tell", "stress", "agree", "ask", "explain", "wonder", "recall"}


@pytest.mark.parametrize(("kinds", "polite"), PREDICATES)
def test_predicate_of_the_table_occurs_in_a_sentence(kinds, polite):
    wanted = kinds.split()
    found = any(
        all(want in (word.kind, word.base) for word, want in zip(words[at:], wanted, strict=False))
        for _, ordinary, _ in CASES
        for words in [morphemes(ordinary.rstrip("。！？"))]
        for at in range(len(words) - len(wanted) + 1)
    )
    assert found


def test_demo_answers_come_out_as_its_own_rules_make_them_but_for_proposals():
    d0, d1 = (
        [json.loads(line)["completion"] for line in (DEMO / name).read_text().splitlines()]
        for name in ("d0.jsonl", "d1.jsonl")
    )
    made = [ojousama(text) for text in d0]
    differing = [text for text, mine, theirs in zip(d0, made, d1, strict=True) if mine != theirs]
    assert all(re.search("ましょう|おはよう|こんばんは", text) for text in differing)
    assert len(differing) < 10
    assert all(in_style(text, "ojousama") for text in made)
    assert [ojousama(text) for text in made] == made


PIECES = st.sampled_from(
    [field for _, a, b in CASES for field in (a, b) if len(field) < 60]
    + [
        "```\nこれは\n```",
        "「私は",
        "」",
        "（僕は）",
        "。",
        "？",
        "\n",
        "- ",
        "1. ",
        "🎉",
        "私",
        "です",
        "3.14",
    ]
)


@settings(max_examples=120, deadline=None)
@given(st.lists(PIECES, max_size=6).map("".join))
def test_converting_twice_is_converting_once(text):
    once = ojousama(text)
    assert ojousama(once) == once


@settings(max_examples=120, deadline=None)
@given(st.lists(PIECES, max_size=6).map("".join))
def test_converting_keeps_content_in_its_order(text):
    made = ojousama(text)
    kept, came = ([c for c in UNTOUCHED.findall(t) if not REPLACED.match(c)] for t in (text, made))
    assert came == kept
    assert len(text) <= 2 * len(made) + 4
    assert len(made) <= len(text) + 12 * (1 + len(re.findall(r"[。！？!?…\n私僕俺君す]", text)))


@settings(max_examples=200, deadline=None)
@given(st.text('あ私。「」（）`$<>"\n-#|1.．!…🎉\U000f0000\U000f0005 https://a', max_size=30))
def test_passages_put_back_are_the_text(text):
    assert ProtectedText(text).rewrite(lambda core, tail: core + tail) == text


@settings(max_examples=60, deadline=None)
@given(st.text(max_size=30))
def test_any_text_without_japanese_is_left_alone(text):
    plain = re.sub("[ぁ-ゖァ-ヺ一-鿿々]", "x", text)
    assert ojousama(plain) == plain


def test_endless_sentence_is_left_alone():
    assert ojousama("長い" * 30_000) == "長い" * 30_000


@pytest.mark.parametrize(
    "protected",
    [
        "`私は行く。`",
        "```\n私は行く。\n```",
        "https://example.com/a?b=1#c",
        "「私は行く。」",
        "（私は行く。）",
        "$私$",
        '"私は"',
    ],
)
def test_protected_passage_stays(protected):
    assert protected in ojousama(f"見ます。{protected} を見ます。")


@pytest.mark.parametrize(
    ("verb", "polite", "negative"),
    [
        ("行く", "行き", "行か"),
        ("買う", "買い", "買わ"),
        ("待つ", "待ち", "待た"),
        ("死ぬ", "死に", "死な"),
        ("切る", "切り", "切ら"),
        ("着る", "着", "着"),
        ("食べる", "食べ", "食べ"),
        ("する", "し", "し"),
        ("来る", "来", "来"),
        ("くる", "き", "こ"),
        ("くださる", "ください", "くださら"),
    ],
)
def test_stems_of_a_verb_are_those_of_grammar(verb, polite, negative):
    (word,) = morphemes(verb)
    assert (word.polite, word.negative) == (polite, negative)
