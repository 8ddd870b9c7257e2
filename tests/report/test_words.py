"""Every text in every language, with the same fields; every sentence of the demo's kind is said."""

from __future__ import annotations

import ast
import string
from pathlib import Path

import pytest

import raylab.report
from raylab.report.findings import find_all
from raylab.report.page.grids import GRIDS
from raylab.report.study_tables import Tables
from raylab.report.words import LANGUAGES, WORDS, voice
from tests.report.conftest import make_norms, make_trials

ROOT = Path(raylab.report.__file__).parent


def fields(text):
    return {(name, form) for _, name, form, _ in string.Formatter().parse(text) if name}


@pytest.mark.parametrize("key", WORDS)
def test_words_have_every_language_with_the_same_values(key):
    texts = WORDS[key]
    assert len(texts) == len(LANGUAGES) and all(texts)
    named = [{name for name, _ in fields(text)} for text in texts]
    # English alone has words that follow a number, and no other value may be lost.
    if not key.startswith(("unit.", "lead.seeds", "lead.rates")):
        assert named[0] == named[1]


def test_words_of_every_sentence_that_a_finding_makes_are_there():
    for module in (ROOT / "findings").glob("*.py"):
        for node in ast.walk(ast.parse(module.read_text())):
            is_sentence = isinstance(node, ast.Call) and getattr(node.func, "id", "") == "Sentence"
            if is_sentence and isinstance(node.args[0], ast.Constant):
                assert node.args[0].value in WORDS, module


def test_words_of_every_column_of_a_grid_are_there():
    for shapes in GRIDS.values():
        for shape in shapes:
            for name in shape.columns:
                title = (shape.titles or {}).get(name, name)
                assert f"column.{title}" in WORDS or name == "norms", title


@pytest.mark.parametrize("language", LANGUAGES)
def test_voice_says_every_finding_of_a_study(language):
    speaker = voice(language)
    for finding in find_all(Tables.of({"trials": make_trials(), "norms": make_norms()})).values():
        for sentence in (*finding.headline, *finding.sentences, *finding.caveats):
            said = speaker.say(sentence)
            assert said and "{" not in said


def test_voice_writes_numbers_lists_and_plurals():
    speaker = voice("en")
    assert speaker("unit.trial", count=1) == "1 trial"
    assert speaker("unit.trial", count=2200) == "2,200 trials"
    assert speaker.listing(["a", "b", "c"]) == "a, b and c"
    assert voice("ja").listing(["a", "b"]) == "a、b"
    assert speaker.factor("method+learning_rate") == "method + learning rate"
    assert speaker("share.with", share=0.0001, factor="seed") == "under 0.1 % with seed"
    assert speaker.some(list(range(9))) == "0, 1, 2, 3, 4, 5 and 3 more"
    assert speaker.column("l2_s42") == "L2 (seed 42)"
    assert speaker.column("no such column") == "no such column"
