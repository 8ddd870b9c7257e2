"""Formats of data: found by columns or named, and read into rows, or refused by row."""

import json
import re
import typing
from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow import parquet

from raylab.errors import DataError
from raylab.spec.data.dataset import load_data
from raylab.spec.data.formats import FORMATS, format_of
from raylab.spec.data.rows import Row, Turn, is_held_out, rows_fingerprint
from raylab.spec.sources import DataSet
from tests.studies import make_study


def said(role, text, keys=("role", "content")):
    return dict(zip(keys, (role, text), strict=True))


def shared(role, text):
    return said(role, text, ("from", "value"))


QUESTION, ANSWER = said("user", "空は？"), said("assistant", "青いです。")
PLAIN = Row.of("空は？", "青いです。")
PAIR = Row.of("空は？", "青いですわ。", rejected="青いです。")
SYSTEM = Turn("system", "短く。")
LONG = Row.of(
    "では海は？", "青いです。", (SYSTEM, Turn("user", "空は？"), Turn("assistant", "青い。"))
)

READ = {
    "text": ({"prompt": "空は？", "completion": "青いです。", "n": 1}, {}, PLAIN),
    "named columns": (
        {"question": "空は？", "answer": "青いです。"},
        {"prompt": "question", "completion": "answer"},
        PLAIN,
    ),
    "messages": ({"messages": [QUESTION, ANSWER], "id": 7}, {}, PLAIN),
    "messages in another column": ({"chat": [QUESTION, ANSWER]},
        {"messages": "chat", "format": "messages"}, PLAIN),
    "messages of several turns": (
        {"messages": [said("system", "短く。"), QUESTION, said("assistant", "青い。"),
            said("user", "では海は？"), ANSWER]}, {}, LONG),
    "sharegpt": (
        {"conversations": [shared("human", "空は？"), shared("gpt", "青いです。")]}, {}, PLAIN),
    "sharegpt with a system prompt beside": (
        {"system": "短く。",
            "conversations": [shared("human", "空は？"), shared("gpt", "青いです。")]},
        {}, PLAIN._replace(turns=(SYSTEM, *PLAIN.turns))),
    "sharegpt preferences": (
        {"conversations": [shared("human", "空は？")], "chosen": shared("gpt", "青いですわ。"),
            "rejected": shared("gpt", "青いです。")}, {}, PAIR),
    "alpaca": ({"instruction": "空は？", "input": "", "output": "青いです。"}, {}, PLAIN),
    "alpaca without input": ({"instruction": "空は？", "output": "青いです。"}, {}, PLAIN),
    "alpaca with input": (
        {"instruction": "訳せ", "input": "sky", "output": "空"}, {}, Row.of("訳せ\n\nsky", "空")),
    "preferences": (
        {"prompt": "空は？", "chosen": "青いですわ。", "rejected": "青いです。"}, {}, PAIR),
    "preferences in other columns": (
        {"prompt": "空は？", "b": "青いですわ。", "a": "青いです。"},
        {"chosen": "b", "rejected": "a"}, PAIR),
    "preferences as messages": (
        {"chosen": [QUESTION, said("assistant", "青いですわ。")], "rejected": [QUESTION, ANSWER]},
        {}, PAIR),
    "preferences as single messages": (
        {"prompt": "空は？", "chosen": [said("assistant", "青いですわ。")], "rejected": [ANSWER]},
        {}, PAIR),
    "one side of preferences": (
        {"prompt": "空は？", "chosen": "x", "rejected": "青いです。"},
        {"completion": "rejected"}, PLAIN),
    "a key": ({"id": 3, "prompt": "空は？", "completion": "青いです。"}, {"key": "id"},
        PLAIN._replace(key="3")),
}  # fmt: skip

REFUSED = {
    "two formats": (
        {"prompt": "a", "completion": "b", "instruction": "a", "output": "b"}, {},
        "fit text and alpaca: say which with `format:`"),
    "no format": ({"question": "a", "answer": "b"}, {}, "columns are question, answer"),
    "named format lacks columns": ({"prompt": "a"}, {"format": "alpaca"},
        "lacks the column 'instruction' and 'output'"),
    "named column is not there": ({"prompt": "a", "completion": "b"}, {"completion": "answer"},
        "lacks the column 'answer'"),
    "named part that the format has not": ({"instruction": "a", "output": "b"},
        {"format": "alpaca", "prompt": "x"}, "the format alpaca has no part `prompt:`"),
    "no key": ({"prompt": "a", "completion": "b"}, {"key": "id"}, "lacks the column 'id'"),
    "a key of no text": ({"prompt": "a", "completion": "b", "id": None}, {"key": "id"},
        "id is no key in rows 1"),
    "tool": ({"messages": [QUESTION, said("tool", "x"), ANSWER]}, {},
        "the turns are user, tool, assistant; expected user and assistant in turn"),
    "question last": ({"messages": [QUESTION]}, {}, "expected user and assistant in turn"),
    "two questions": ({"messages": [QUESTION, QUESTION, ANSWER]}, {}, "turns are user, user, a"),
    "no turns": ({"messages": []}, {},
        "column 'messages' holds an empty list, expected a list of messages in rows 1"),
    "turns as text": ({"messages": "user: a"}, {},
        "column 'messages' holds the text 'user: a', expected a list of messages in rows 1"),
    "other keys": ({"messages": [said("human", "a", ("who", "says"))]}, {},
        "column 'messages', turn 1 has 'who', 'says', expected 'role' and 'content'"),
    "other role": ({"messages": [said("narrator", "a"), ANSWER]}, {}, "of the role 'narrator'"),
    "empty turn": ({"messages": [QUESTION, said("assistant", " ")]}, {}, "a turn is empty"),
    "system alone": ({"messages": [said("system", "a")]}, {}, "the turns are system"),
    "renamed column is empty": ({"q": "a", "a": ""}, {"prompt": "q", "completion": "a"},
        "a is empty in rows 1"),
    "rejected is no text": ({"prompt": "a", "chosen": "b", "rejected": None}, {},
        "column 'rejected' holds nothing, expected text or a list of messages in rows 1"),
    "preferences part early": (
        {"chosen": [QUESTION, ANSWER], "rejected": [said("user", "x"), ANSWER]}, {},
        "answer different conversations"),
    "alpaca without output": ({"instruction": "a", "output": " "}, {}, "output is empty"),
}  # fmt: skip


def load(path, **fields):
    return load_data(make_study(data={"D": {"path": str(path), **fields}}, recipes={})).rows["D"]


def written(tmp_path, values, kind="jsonl"):
    path = tmp_path / f"a.{kind}"
    if kind == "parquet":
        parquet.write_table(pa.Table.from_pylist([values]), path)
    else:
        path.write_text(json.dumps([values] if kind == "json" else values))
    return path


@pytest.mark.parametrize("case", READ)
@pytest.mark.parametrize("kind", ["jsonl", "json", "parquet"])
def test_format_reads_the_row(case, kind, tmp_path):
    values, fields, expected = READ[case]
    assert load(written(tmp_path, values, kind), **fields) == [expected]


@pytest.mark.parametrize("case", REFUSED)
def test_format_refuses_by_name(case, tmp_path):
    values, fields, message = REFUSED[case]
    with pytest.raises(DataError) as caught:
        load(written(tmp_path, values), **fields)
    assert message in str(caught.value)


def test_formats_of_the_study_are_those_of_the_table():
    (literal, _) = typing.get_args(DataSet.model_fields["format"].annotation)
    assert typing.get_args(literal) == tuple(FORMATS)


@pytest.mark.parametrize("name", FORMATS)
def test_format_named_is_the_one_its_own_columns_fit(name):
    columns = [*FORMATS[name].columns.values(), "id"]
    assert format_of(DataSet(path="a"), columns) == (name, "")
    assert format_of(DataSet(path="a", format=name), columns) == (name, "")


def test_row_of_several_turns_is_a_chat_up_to_the_answer():
    assert [turn["role"] for turn in LONG.chat] == ["system", "user", "assistant", "user"]
    assert LONG.chat[-1]["content"] == "では海は？"


def test_held_out_rests_on_what_users_say_alone():
    other = LONG._replace(
        turns=(Turn("user", "空は？"), Turn("assistant", "青いですわ。"), *LONG.turns[-2:])
    )
    assert other.user_text == LONG.user_text != LONG.prompt
    assert is_held_out(other.user_text, 0.5) == is_held_out(LONG.user_text, 0.5)
    assert PLAIN.user_text == PLAIN.prompt


def test_fingerprint_of_a_plain_row_is_that_of_its_two_texts():
    # Ids of trials that were made before there were formats stay as they are.
    assert rows_fingerprint([Row.of("質問0", "答え0です。")]) == "f5a7ff4e6a8efa91"
    rows = [
        PLAIN,
        PAIR,
        LONG,
        PLAIN._replace(key="1"),
        PLAIN._replace(turns=(SYSTEM, *PLAIN.turns)),
    ]
    assert len({rows_fingerprint([row]) for row in rows}) == len(rows)


def test_documented_formats_are_those_of_the_table():
    text = (Path(__file__).parents[3] / "docs" / "data.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `([^`]+)` \| `([^`]+)` \|", text, re.MULTILINE)
    assert rows == [(name, form.example) for name, form in FORMATS.items()]
