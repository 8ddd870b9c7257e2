"""A data set's answers in another style: everything else stays."""

import csv
import json

import pyarrow as pa
import pytest
from pyarrow import parquet

from raylab.conversion import convert as module
from raylab.conversion.convert import convert_file
from raylab.errors import DataError, InputError, RaylabError
from raylab.spec.data.dataset import read_data_set
from raylab.spec.data.pairs import align
from raylab.spec.sources import DataSet

ROWS = [
    {"id": 3, "prompt": "空は青いですか。", "completion": "はい、青いです。", "n": 1.5},
    {"id": 1, "prompt": "名前は。", "completion": "太郎", "n": -2.0},
    {"id": 2, "prompt": "行く？", "completion": "行きません。\nまた明日。", "n": 0.0},
]
WANTED = ["ええ、青いですわ。", "太郎", "行きませんわ。\nまた明日ですわ。"]
TURNS = {
    "messages": ("role", "content", "user", "assistant"),
    "conversations": ("from", "value", "human", "gpt"),
}


def written(path, rows=ROWS):
    if path.suffix == ".parquet":
        parquet.write_table(pa.Table.from_pylist(rows), path)
    elif path.suffix == ".csv":
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    elif path.suffix == ".json":
        path.write_text(json.dumps(rows))
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def read(path):
    if path.suffix == ".parquet":
        return parquet.read_table(path, use_threads=False).to_pylist()
    if path.suffix == ".csv":
        return list(csv.DictReader(path.open(newline="")))
    text = path.read_text()
    return json.loads(text) if path.suffix == ".json" else list(map(json.loads, text.splitlines()))


@pytest.mark.parametrize("kind", ["jsonl", "json", "csv", "parquet"])
def test_convert_changes_the_answers_and_nothing_else(kind, tmp_path):
    source, out = written(tmp_path / f"a.{kind}"), tmp_path / f"b.{kind}"
    made = convert_file(source, out, "ojousama")
    before, after = read(source), read(out)
    assert [row["completion"] for row in after] == WANTED
    assert [{**row, "completion": 0} for row in after] == [{**r, "completion": 0} for r in before]
    assert list(after[0]) == list(before[0])
    assert (made.rows, made.rewritten, made.unchanged) == (3, 2, ("2",))
    assert (made.style_before, made.style_after) == (0, pytest.approx(2 / 3))
    assert sorted(path.name for path in tmp_path.iterdir()) == [source.name, out.name]


def test_convert_again_changes_nothing(tmp_path):
    source = written(tmp_path / "a.jsonl")
    convert_file(source, tmp_path / "b.jsonl", "ojousama")
    assert convert_file(tmp_path / "b.jsonl", tmp_path / "c.jsonl", "ojousama").rewritten == 0
    assert (tmp_path / "b.jsonl").read_bytes() == (tmp_path / "c.jsonl").read_bytes()


def test_convert_makes_the_other_side_of_pairs(tmp_path):
    source, out = written(tmp_path / "a.jsonl", [ROWS[0], ROWS[2]]), tmp_path / "b.jsonl"
    convert_file(source, out, "ojousama")
    d0, d1 = (read_data_set("D", DataSet(path=str(path))).rows for path in (source, out))
    assert len(align(d1, d0, ("D1", "D0"))) == 2


@pytest.mark.parametrize("column", TURNS)
def test_convert_of_a_conversation_rewrites_its_last_turn_alone(column, tmp_path):
    role, text, user, assistant = TURNS[column]
    said = [
        (user, "空は？"),
        (assistant, "青いです。"),
        (user, "海は？"),
        (assistant, "青いです。"),
    ]
    turns = [{role: who, text: what} for who, what in said]
    source, out = written(tmp_path / "a.jsonl", [{"id": 1, column: turns}]), tmp_path / "b.jsonl"
    convert_file(source, out, "ojousama")
    (row,) = read(out)
    assert [turn[text] for turn in row[column]] == [
        "空は？",
        "青いです。",
        "海は？",
        "青いですわ。",
    ]


def test_convert_of_messages_in_two_columns_rewrites_the_answer(tmp_path):
    row = {"prompt": [{"role": "user", "content": "空は？"}],
           "completion": [{"role": "assistant", "content": "青いです。"}]}  # fmt: skip
    convert_file(written(tmp_path / "a.jsonl", [row]), tmp_path / "b.jsonl", "ojousama")
    (made,) = read(tmp_path / "b.jsonl")
    assert made == {**row, "completion": [{"role": "assistant", "content": "青いですわ。"}]}


def test_convert_of_a_conversation_that_does_not_end_in_its_learned_answer_is_refused(tmp_path):
    turns = [("user", "a", 0), ("assistant", "b", 1), ("user", "c", 0), ("assistant", "d", 0)]
    row = {"messages": [{"role": r, "content": t, "weight": w} for r, t, w in turns]}
    with pytest.raises(DataError, match="is not the answer that is learned"):
        convert_file(written(tmp_path / "a.jsonl", [row]), tmp_path / "b.jsonl", "ojousama")
    assert not (tmp_path / "b.jsonl").exists()


def test_convert_of_a_named_column_rewrites_that_one(tmp_path):
    convert_file(written(tmp_path / "a.jsonl"), tmp_path / "b.jsonl", "ojousama", "prompt")
    assert [row["completion"] for row in read(tmp_path / "b.jsonl")] == [
        row["completion"] for row in ROWS
    ]
    assert read(tmp_path / "b.jsonl")[0]["prompt"] == "空は青いですの。"


@pytest.mark.parametrize(
    ("out", "style", "column", "message"),
    [
        ("a.jsonl", "ojousama", None, "is there already"),
        ("b.csv", "ojousama", None, "of another kind"),
        ("no/b.jsonl", "ojousama", None, "no such directory"),
        ("b.jsonl", "pirate", None, "no such style"),
        ("b.jsonl", "ojousama", "n", "holds no text"),
        ("b.jsonl", "ojousama", "answer", "holds no text"),
    ],
)
def test_convert_refuses_and_writes_nothing(out, style, column, message, tmp_path):
    source = written(tmp_path / "a.jsonl")
    before = source.read_bytes()
    with pytest.raises(InputError, match=message):
        convert_file(source, tmp_path / out, style, column)
    assert [path.name for path in tmp_path.iterdir()] == ["a.jsonl"]
    assert source.read_bytes() == before


def test_convert_of_preferences_asks_for_the_column(tmp_path):
    source = written(tmp_path / "a.jsonl", [{"prompt": "a", "chosen": "b", "rejected": "c"}])
    with pytest.raises(DataError, match="--completion"):
        convert_file(source, tmp_path / "b.jsonl", "ojousama")


def test_convert_of_unreadable_rows_names_them(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"prompt": "a", "completion": "b"}\n{\n')
    with pytest.raises(RaylabError, match="row 2"):
        convert_file(tmp_path / "a.jsonl", tmp_path / "b.jsonl", "ojousama")


def test_convert_with_force_replaces_the_file(tmp_path):
    source = written(tmp_path / "a.jsonl")
    convert_file(source, source, "ojousama", force=True)
    assert [row["completion"] for row in read(source)] == WANTED


def test_convert_that_fails_in_writing_leaves_what_was_there(tmp_path, monkeypatch):
    source, out = written(tmp_path / "a.jsonl"), tmp_path / "b.jsonl"
    out.write_text("before")

    def fail(source, out, rows):
        out.write_text("half")
        raise OSError("disk full")

    monkeypatch.setitem(module.WRITERS, ".jsonl", fail)
    with pytest.raises(OSError, match="disk full"):
        convert_file(source, out, "ojousama", force=True)
    assert out.read_text() == "before"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.jsonl", "b.jsonl"]


@pytest.mark.parametrize("names", [("instruction", "output"), ("prompt", "completion")])
def test_convert_of_rows_that_are_left_out_keeps_them(names, tmp_path):
    question, answer = names
    rows = [
        {question: "行く？", answer: "行きません。", "label": True},
        {question: "名前は。", answer: "太郎です。", "label": False},
    ]
    source, out = written(tmp_path / "a.jsonl", rows), tmp_path / "b.jsonl"
    assert convert_file(source, out, "ojousama").rows == 2
    assert [row["label"] for row in read(out)] == [True, False]
    assert read(out)[0][answer] == "行きませんわ。"
