"""The files of messages: every language has all of them, and the report uses all of them."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest
from fluent.syntax import FluentParser
from fluent.syntax.ast import Junk, Message, MessageReference, VariableReference
from fluent.syntax.visitor import Visitor

import raylab.report
from raylab.report.findings.every_finding import find_all
from raylab.report.findings.finding import Sentence
from raylab.report.page.grids import GRIDS
from raylab.report.page.page import DEFINED
from raylab.report.study_tables import Tables
from raylab.report.words import LANGUAGES, Translator, translator
from tests.report.conftest import make_norms, make_trials

ROOT = Path(raylab.report.__file__).parent


class Reader(Visitor):
    """Collects the values and the other messages that a message uses."""

    def __init__(self):
        self.values, self.messages = set(), set()

    def visit_VariableReference(self, node: VariableReference):
        self.values.add(node.id.name)

    def visit_MessageReference(self, node: MessageReference):
        self.messages.add(node.id.name)


def entries(language):
    text = (ROOT / "words" / f"{language}.ftl").read_text(encoding="utf-8")
    return FluentParser().parse(text).body


def messages(language):
    """Message -> what it uses."""
    found = {}
    for entry in entries(language):
        if isinstance(entry, Message):
            found[entry.id.name] = reader = Reader()
            reader.visit(entry)
    return found


MESSAGES = {language: messages(language) for language in LANGUAGES}
# A language without plurals has no use for the number that chooses one.
ONLY_COUNTS = {"lead-seeds", "lead-rates", "studied-recipes", "page-more_cautions"}


@pytest.mark.parametrize("language", LANGUAGES)
def test_messages_of_a_file_are_well_formed_and_not_repeated(language):
    assert [entry.content for entry in entries(language) if isinstance(entry, Junk)] == []
    names = [entry.id.name for entry in entries(language) if isinstance(entry, Message)]
    assert len(names) > 300
    assert len(set(names)) == len(names)


def test_messages_of_all_languages_are_the_same_with_the_same_values():
    first, *others = (MESSAGES[language] for language in LANGUAGES)
    for other in others:
        assert first.keys() == other.keys()
        differing = {n for n in first if first[n].values != other[n].values}
        assert differing <= ONLY_COUNTS
        assert all(other[n].values < first[n].values for n in differing)


def used():
    """Patterns of the messages that the code and the templates name."""
    for path in ROOT.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.JoinedStr):
                parts = [
                    re.escape(part.value) if isinstance(part, ast.Constant) else r"\w+"
                    for part in node.values
                ]
                # Text that is no name of a message matches none.
                if isinstance(node.values[0], ast.Constant):
                    yield "".join(parts)
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield re.escape(node.value)
    for path in (file for name in ("html", "md") for file in ROOT.glob(f"templates/*.{name}")):
        yield from re.findall(r'translate\("([\w-]+)"', path.read_text(encoding="utf-8"))
    for language in LANGUAGES:
        for reader in MESSAGES[language].values():
            yield from reader.messages


def test_messages_are_all_used():
    everything = re.compile("|".join(f"(?:{pattern})" for pattern in set(used())))
    assert [name for name in MESSAGES["en"] if not everything.fullmatch(name)] == []


def test_messages_of_columns_are_titles_of_a_column_that_the_code_names():
    names = {
        node.value
        for path in ROOT.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }
    built = {f"l{n}_{what}" for n in (1, 2) for what in ("printed", "measured", "ratio")}
    titles = {n.removeprefix("column-") for n in MESSAGES["en"] if n.startswith("column-")}
    assert titles - names - built - {"norm_of_seed"} == set()


def test_messages_of_every_sentence_that_a_finding_makes_are_there():
    found = 0
    for module in (ROOT / "findings").glob("*.py"):
        for node in ast.walk(ast.parse(module.read_text())):
            is_sentence = isinstance(node, ast.Call) and getattr(node.func, "id", "") == "Sentence"
            if is_sentence and isinstance(node.args[0], ast.Constant):
                assert node.args[0].value in MESSAGES["en"], module
                found += 1
    assert found > 20


def test_messages_of_every_column_of_a_grid_are_there():
    for shapes in GRIDS.values():
        for shape in shapes:
            for name in shape.columns:
                title = (shape.titles or {}).get(name, name)
                assert f"column-{title}" in MESSAGES["en"] or name == "norms", title


@pytest.mark.parametrize("language", LANGUAGES)
def test_translator_writes_every_finding_of_a_study(language):
    translate = translator(language)
    for finding in find_all(Tables.of({"trials": make_trials(), "norms": make_norms()})).values():
        for sentence in finding.sentences:
            text = translate.sentence(sentence)
            assert text and "{" not in text and "\u2068" not in text


def test_translator_writes_numbers_lists_and_plurals():
    translate = translator("en")
    assert translate("unit-trial", count=1) == "1 trial"
    assert translate("unit-trial", count=2200) == "2,200 trials"
    assert translate("lead-seeds", count=1, seeds=[12345]) == "seed 12345"
    assert translate("seed-value", value=2.5, seed=12345) == "2.5 (seed 12345)"
    assert translate.listing(["a", "b", "c"]) == "a, b and c"
    assert translator("ja").listing(["a", "b"]) == "a、b"
    assert translate.factor("method+learning_rate") == "method + learning rate"
    assert translate("share-with", share=0.0001, factor="seed") == "seed under 0.1 %"
    nine = translate("marks-compared", names=list(range(9)))
    assert nine == " Compared in 0, 1, 2, 3, 4, 5 and 3 more."
    assert translate.column("l2_s42") == "L2 (seed 42)"
    assert translate.column("no such column") == "no such column"


def test_translator_writes_values_of_any_length_and_none_as_a_dash():
    answer = "あ" * 9999
    assert translator("en")("answers-endless", text=answer) == f"{answer} [did not stop]"
    assert translator("ja")("answers-title", model="m", seed=None) == "ベースモデルm、シード–"


def test_translator_writes_percentages_with_three_digits_and_a_range_of_one_value_once():
    more = "p = { PERCENT($x) }\nr = { PERCENTS($low, $high) }\ns = { SHORTS($low, $high) }"
    translate, japanese = Translator("en", more), Translator("ja", more)
    shares = {4.399: "440 %", 1.0: "100 %", 0.9751: "97.5 %", 0.0312: "3.1 %", 3e-4: "0.03 %"}
    assert {x: translate("p", x=x) for x in shares} == shares
    assert translate("p", x=None) == "–" and translate("p", x=0) == "0 %"
    assert translate("r", low=0.1472, high=0.1641) == "14.7 % to 16.4 %"
    assert translate("r", low=0.15201, high=0.15204) == "15.2 %"
    assert japanese("s", low=0.967, high=1.07) == "0.967〜1.07"


def test_messages_name_a_base_model_as_a_prefix_that_can_be_left_out():
    translate = translator("en")
    values = {"low": 0.5, "high": 0.6, "recipes": 2}
    said = "The seed-to-seed distance is 50 % to 60 % of the norm of a recipe's own task vector"
    assert translate("floor-apart", model="m", **values) == f"m: {said} (2 recipes)."
    assert translate("floor-apart", model=None, **values) == f"{said} (2 recipes)."


@pytest.mark.parametrize("names", [("m",), ("m", "n")])
def test_findings_name_the_base_model_where_there_are_two(names):
    trials = [{**row, "model": name, "name": row["name"].replace(row["model"], name, 1)}
              for name in names for row in make_trials()]  # fmt: skip
    for finding in find_all(Tables.of({"trials": trials})).values():
        for sentence in finding.sentences:
            assert sentence.values.get("model", "m") in (names if len(names) > 1 else (None, "m"))
            text = translator("en").sentence(sentence)
            if "model" in sentence.values:
                assert text.startswith(("m: ", "n: ")) == (len(names) > 1), text


@pytest.mark.parametrize("language", LANGUAGES)
def test_definitions_are_one_sentence_of_one_line(language):
    translate = translator(language)
    for name in DEFINED:
        text = translate(f"define-{name}-text")
        assert len(text) <= 160, name
        assert text.endswith("." if language == "en" else "。"), name
        assert len(re.findall("[.。](?= |$|[^0-9 ])", text)) == 1, name


FORBIDDEN = re.compile(
    "like seeds|unlike|how far|told apart|told from|to be told|left over|floor", re.IGNORECASE
)


def test_messages_have_plain_words():
    lines = (ROOT / "words" / "en.ftl").read_text(encoding="utf-8").splitlines()
    texts = [re.sub(r"^[\w-]+ =|\{[^}]*\}", "", line) for line in lines if line[:1] != "#"]
    assert [text for text in texts if FORBIDDEN.search(text)] == []


def test_translator_of_a_missing_message_or_value_raises():
    with pytest.raises(LookupError, match="no-such"):
        translator("en")("no-such")
    with pytest.raises(ValueError, match=r"unit-trial.*count"):
        translator("en")("unit-trial")
    with pytest.raises(ValueError, match="no message of Fluent"):
        Translator("en", "broken {")


def test_import_of_the_terminal_tables_but_the_verdicts_loads_no_translator():
    code = (
        "import sys, pkgutil, raylab.cli, raylab.report.terminal as t\n"
        "names = {m.name for m in pkgutil.iter_modules(t.__path__)} - {'verdict_table'}\n"
        "for name in names: __import__(f'{t.__name__}.{name}')\n"
        "print(sorted({'fluent', 'babel', 'altair', 'statsmodels'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


JAPANESE = "[぀-ヿ㐀-鿿々〇、。：；（）「」［］]"
POLITE = re.compile("(です|ます|ません|でした|ました|ください)$")


def japanese():
    """(name, text) of every Japanese message."""
    lines = (ROOT / "words" / "ja.ftl").read_text(encoding="utf-8").splitlines()
    found = [line.split(" = ", 1) for line in lines if re.match(r"[\w-]+ = ", line)]
    assert len(found) > 300
    return found


def test_japanese_text_has_no_space_beside_its_letters_or_values():
    for name, text in japanese():
        assert not re.search(f"{JAPANESE} | {JAPANESE}", text), (name, text)
        # A value between Japanese letters stands as close as they do.
        assert not re.search(rf"{JAPANESE} \{{|\}} {JAPANESE}", text), (name, text)


def test_japanese_sentences_are_all_polite():
    """A sentence ends politely, or with a noun; a noun here ends in no hiragana."""
    for name, text in japanese():
        for sentence in text.split("。")[:-1]:
            end = re.search("[぀-ゟ]*$", re.sub("（[^（）]*）$", "", sentence)).group()
            assert not end or POLITE.search(end), (name, sentence)


def test_japanese_sentences_of_a_study_are_written_without_stray_spaces():
    translate, count = translator("ja"), 0
    for finding in find_all(Tables.of({"trials": make_trials(), "norms": make_norms()})).values():
        for sentence in finding.sentences:
            text = translate.whole_sentence(sentence)
            assert not re.search(f"{JAPANESE} | {JAPANESE}", text), text
            assert text.endswith("。"), text
            count += 1
    assert count > 10


@pytest.mark.parametrize(("language", "mark"), [("en", ": "), ("ja", "：")])
def test_whole_sentence_begins_with_its_subject(language, mark):
    translate = translator(language)
    sentence = Sentence("effects-tied", {"model": "m"}, head="factor-seed")
    subject = {"en": "Seed", "ja": "シード"}[language]
    assert translate.whole_sentence(sentence) == f"{subject}{mark}{translate.sentence(sentence)}"
    alone = Sentence("effects-tied", {"model": "m"})
    assert translate.whole_sentence(alone) == translate.sentence(alone)
