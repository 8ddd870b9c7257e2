"""Data sets: read as written, or refused with file and row."""

import csv
import json
import pickle
from collections import Counter

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import parquet

from raylab.errors import DataError
from raylab.spec.data.dataset import load_rows
from raylab.spec.data.pairs import align
from raylab.spec.data.rows import (
    LoadedRows,
    Row,
    Turn,
    characters_of,
    is_held_out,
    kinds_of,
    rows_fingerprint,
    rows_fingerprints,
    split,
)
from raylab.spec.identity import fingerprint
from tests.studies import make_study, write_jsonl

GOOD = [("お元気ですか", "はい、元気です。"), ("二番目", "はい")]
AWKWARD = [
    ("質問、\n改行と,コンマ", '彼は"はい"と言った。\r\n次の行,'),
    ("NA", "null"),
    ("001", "1e5"),
    ("true", " 空白の前後 "),
    ("2020-01-01", "2020-01-01 10:00:00"),
    ("絵文字😀", "\u2028行区切り\ttab"),
]


def read(path, **fields):
    data = {"D": {"path": str(path), **fields}}
    rows = load_rows(make_study(data=data, recipes={}))["D"]
    assert all(row == Row.of(row.prompt, row.completion) for row in rows)
    return [(row.prompt, row.completion) for row in rows]


def refused(path, **fields):
    with pytest.raises(DataError) as caught:
        read(path, **fields)
    assert (caught.value.exit_status, caught.value.cause) == (2, "bad_data")
    return str(caught.value)


def write_csv(path, rows, encoding="utf-8"):
    with path.open("w", encoding=encoding, newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["prompt", "completion"])
        writer.writerows(rows)
    return path


def test_jsonl_awkward_texts_read_as_written(tmp_path):
    assert read(write_jsonl(tmp_path / "a.jsonl", AWKWARD)) == AWKWARD


def test_csv_awkward_texts_read_as_written(tmp_path):
    assert read(write_csv(tmp_path / "a.csv", AWKWARD)) == AWKWARD


def test_csv_with_bom_reads_as_written(tmp_path):
    assert read(write_csv(tmp_path / "a.csv", AWKWARD, "utf-8-sig")) == AWKWARD


def test_jsonl_with_bom_reads_as_written(tmp_path):
    path = write_jsonl(tmp_path / "a.jsonl", GOOD)
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert read(path) == GOOD


def test_parquet_reads_as_written(tmp_path):
    columns = dict(
        zip(("prompt", "completion"), map(list, zip(*AWKWARD, strict=True)), strict=True)
    )
    parquet.write_table(pa.table(columns), tmp_path / "a.parquet")
    assert read(tmp_path / "a.parquet") == AWKWARD


def test_jsonl_texts_that_look_like_times_stay_text(tmp_path):
    rows = [("2020-01-01", "2020-01-01 10:00:00"), ("2021-02-03", "2021-02-03 11:00:00")]
    assert read(write_jsonl(tmp_path / "a.jsonl", rows)) == rows


@pytest.mark.parametrize("kind", ["jsonl", "csv"])
def test_file_with_very_long_text_reads_as_written(kind, tmp_path):
    rows = [*GOOD, ("長い", "あ" * 800_000), *GOOD]
    path = tmp_path / f"a.{kind}"
    assert read((write_csv if kind == "csv" else write_jsonl)(path, rows)) == rows


def test_jsonl_other_column_names_read(tmp_path):
    path = write_jsonl(tmp_path / "a.jsonl", GOOD, ("q", "a"))
    assert read(path, prompt="q", completion="a") == GOOD


def test_jsonl_other_columns_beside_are_ignored(tmp_path):
    lines = [{"prompt": "a", "completion": "b", "n": n, "x": {"y": [n]}} for n in range(3)]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, lines)))
    assert read(tmp_path / "a.jsonl") == [("a", "b")] * 3


def test_concat_joins_in_order(tmp_path):
    one = write_jsonl(tmp_path / "1.jsonl", GOOD)
    two = write_jsonl(tmp_path / "2.jsonl", AWKWARD)
    data = {"J": {"concat": ["B", "A"]}, "A": {"path": str(one)}, "B": {"path": str(two)}}
    rows = load_rows(make_study(data=data, recipes={}))
    assert list(rows) == ["J", "A", "B"]
    assert [(row.prompt, row.completion) for row in rows["J"]] == [*AWKWARD, *GOOD]


def test_fingerprint_is_that_of_the_texts_in_order(tmp_path):
    one = rows_of(*read(write_jsonl(tmp_path / "a.jsonl", AWKWARD)))
    two = rows_of(*read(write_csv(tmp_path / "elsewhere.csv", AWKWARD)))
    assert rows_fingerprint(one) == rows_fingerprint(two) != rows_fingerprint(one[::-1])


@pytest.mark.parametrize("kind", ["jsonl", "csv", "parquet"])
def test_column_missing_names_file_and_columns(kind, tmp_path):
    path = tmp_path / f"a.{kind}"
    if kind == "parquet":
        parquet.write_table(pa.table({"prompt": ["a"], "answer": ["b"]}), path)
    elif kind == "csv":
        path.write_text("prompt,answer\na,b\n")
    else:
        write_jsonl(path, GOOD, ("prompt", "answer"))
    message = refused(path)
    for part in ("'completion'", "prompt, answer", str(path)):
        assert part in message


@pytest.mark.parametrize(
    ("name", "text"),
    [("a.jsonl", ""), ("a.jsonl", "\n\n"), ("a.csv", ""), ("a.csv", "prompt,completion\n")],
)
def test_file_empty_names_it(name, text, tmp_path):
    (tmp_path / name).write_text(text)
    assert str(tmp_path / name) in refused(tmp_path / name)


def test_parquet_empty_names_it(tmp_path):
    empty = pa.table({"prompt": pa.array([], pa.string()), "completion": pa.array([], pa.string())})
    parquet.write_table(empty, tmp_path / "a.parquet")
    assert str(tmp_path / "a.parquet") in refused(tmp_path / "a.parquet")


@pytest.mark.parametrize("blank", ["", "  ", "\n", "\u3000"])
@pytest.mark.parametrize("kind", ["jsonl", "csv"])
def test_answer_empty_names_file_and_rows(kind, blank, tmp_path):
    path = tmp_path / f"a.{kind}"
    rows = [("a", "b"), ("c", blank), ("d", "e"), ("f", blank)]
    message = refused((write_csv if kind == "csv" else write_jsonl)(path, rows))
    assert "completion is empty in rows 2, 4" in message
    assert str(path) in message


def test_prompt_empty_names_rows(tmp_path):
    message = refused(write_jsonl(tmp_path / "a.jsonl", [("a", "b"), ("", "c")]))
    assert "prompt is empty in rows 2" in message


@pytest.mark.parametrize(
    ("wrong", "held"),
    [
        (7, "holds the number 7, expected text or a list of messages"),
        (None, "holds nothing, expected text or a list of messages"),
        (["b"], "holds a list, expected text or a list of messages"),
        ({"x": "b"}, ", turn 1 has 'x', expected 'role' and 'content'"),
        (True, "holds true, expected text or a list of messages"),
    ],
)
def test_answers_not_text_name_file_and_rows(wrong, held, tmp_path):
    message = refused(write_jsonl(tmp_path / "a.jsonl", [("a", wrong), ("c", wrong)]))
    assert f"column 'completion'{held if held[0] == ',' else ' ' + held} in rows 1, 2" in message
    assert str(tmp_path / "a.jsonl") in message


@pytest.mark.parametrize("wrong", [7, ["b"], {"x": "b"}, True])
def test_one_answer_not_text_names_file_and_row(wrong, tmp_path):
    path = write_jsonl(tmp_path / "a.jsonl", [("a", "b"), ("c", "d"), ("e", wrong), ("f", "g")])
    message = refused(path)
    assert str(path) in message
    assert "3" in message.replace(str(path), "")


def test_answer_absent_in_one_row_names_row(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text('{"prompt": "a", "completion": "b"}\n{"prompt": "c"}\n')
    assert "column 'completion' holds nothing, expected text or a list of messages in rows 2" in (
        refused(path)
    )


@pytest.mark.parametrize("line", ['{"prompt": "c"', "nonsense", '["a", "b"]', '"text"', "{,}"])
def test_jsonl_invalid_line_names_file_and_row(line, tmp_path):
    path = tmp_path / "a.jsonl"
    good = '{"prompt": "a", "completion": "b"}'
    path.write_text("\n".join([good, good, line, good]) + "\n")
    message = refused(path)
    assert str(path) in message
    assert "3" in message.replace(str(path), "")


def test_csv_row_of_other_width_names_file(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("prompt,completion\na,b\nc,d,e\n")
    message = refused(path)
    assert str(path) in message
    assert "3" in message.replace(str(path), "")


@pytest.mark.parametrize("name", ["a.jsonl", "a.csv"])
def test_file_not_utf8_names_it(name, tmp_path):
    text = "prompt,completion\n質問,答え\n" if name == "a.csv" else '{"prompt": "質問"}\n'
    (tmp_path / name).write_bytes(text.encode("shift_jis"))
    assert str(tmp_path / name) in refused(tmp_path / name)


@pytest.mark.parametrize("name", ["a.txt", "a", "a.json", "no.jsonl", "no.csv", "no.parquet"])
def test_file_unknown_or_absent_names_it(name, tmp_path):
    assert str(tmp_path / name) in refused(tmp_path / name)


def test_parquet_damaged_names_it(tmp_path):
    (tmp_path / "a.parquet").write_bytes(b"PAR1 nonsense")
    assert str(tmp_path / "a.parquet") in refused(tmp_path / "a.parquet")


@pytest.mark.parametrize("text", ["long" * 5, "質問"])
def test_many_bad_rows_are_counted_not_listed(text, tmp_path):
    message = refused(write_jsonl(tmp_path / "a.jsonl", [(text, "")] * 50))
    assert "rows 1, 2, 3, 4, 5 and 45 more" in message


# Held-out rows


@given(st.lists(st.tuples(st.text(), st.text())), st.floats(0, 1, exclude_max=True), st.randoms())
def test_split_depends_on_prompts_alone(texts, share, random):
    rows = [Row.of(*text) for text in texts]
    training, held_out = split(rows, share)
    assert sorted(training + held_out) == sorted(rows)
    other = [Row.of(row.prompt, row.completion + "ですわ") for row in rows]
    random.shuffle(other)
    assert {row.prompt for row in split(other, share)[1]} == {row.prompt for row in held_out}
    assert not {row.prompt for row in training} & {row.prompt for row in held_out}


def test_split_of_conversations_puts_each_row_on_one_side():
    rows = [
        Row.of("続けて", f"{i}ですわ", (Turn("user", f"質問{i}"), Turn("assistant", "はい")))
        for i in range(40)
    ]
    training, held_out = split(rows, 0.5)
    assert training and held_out
    assert sorted([*training, *held_out]) == sorted(rows)
    assert [is_held_out(row.user_text, 0.5) for row in training] == [False] * len(training)


def test_split_share_is_about_the_share():
    held_out = sum(is_held_out(f"質問{i}", 0.1) for i in range(5000))
    assert 400 < held_out < 600
    assert not any(is_held_out(f"質問{i}", 0) for i in range(100))


def test_split_larger_share_holds_out_more():
    few = {i for i in range(500) if is_held_out(str(i), 0.1)}
    assert few < {i for i in range(500) if is_held_out(str(i), 0.3)}


@given(st.lists(st.builds(Row.of, st.text(), st.text())), st.floats(0, 0.9))
def test_loaded_rows_answer_as_a_list_of_them_does(rows, share):
    loaded = LoadedRows(rows)
    for _ in range(2):
        assert split(loaded, share) == split(rows, share)
        assert rows_fingerprint(loaded) == rows_fingerprint(rows)
    assert pickle.loads(pickle.dumps(loaded)) == rows


TURNS = st.lists(
    st.tuples(st.sampled_from(["user", "assistant", "system"]), st.text(max_size=9),
              st.sampled_from(["", '{"name": "x"}']), st.sampled_from([None, True, False])),
    min_size=2, max_size=4,
)  # fmt: skip
ANY_ROWS = st.lists(
    st.builds(
        lambda turns, rejected, key, tools: Row(
            tuple(Turn(*turn) for turn in turns),
            rejected and Turn("assistant", rejected), key, tools,
        ),
        TURNS, st.sampled_from([None, "no"]), st.sampled_from([None, "k"]),
        st.sampled_from(["", "[]"]),
    ),
    max_size=5,
)  # fmt: skip


@given(sets=st.lists(ANY_ROWS, min_size=1, max_size=3), share=st.sampled_from([0.0, 0.4]))
def test_joined_rows_answer_as_one_list_of_all_of_them_does(sets, share):
    parts = [LoadedRows(rows) for rows in sets]
    joined = LoadedRows.joined(parts)
    plain = LoadedRows(row for rows in sets for row in rows)
    assert joined == plain
    found = rows_fingerprints({"joined": joined, **{str(n): p for n, p in enumerate(parts)}})
    assert found == {
        "joined": plain.fingerprint,
        **{str(n): rows_fingerprint(rows) for n, rows in enumerate(sets)},
    }
    training, kept = plain.split(share)
    assert joined.split(share) == (training, kept)
    assert joined.training_sum(share, characters_of) == sum(
        len(text) for row in training
        for text in (row.tools, *(part for turn in row.turns for part in (turn.text, turn.more)))
    )  # fmt: skip
    assert joined.training_sum(share, kinds_of) == Counter(
        (tuple(t.role for t in row.turns), tuple(t.learned for t in row.turns), row.tools != "",
         row.rejected is not None)
        for row in training
    )  # fmt: skip


def test_fingerprint_of_rows_is_that_of_their_canonical_list():
    plain = [Row.of("a\n", '"b"'), Row.of("あ", "\u2028")]
    assert rows_fingerprint(plain) == fingerprint([["a\n", '"b"'], ["あ", "\u2028"]])
    assert rows_fingerprint([]) == fingerprint([])


def test_loaded_rows_are_sent_without_their_answers():
    rows = LoadedRows(Row.of(f"質問{i}", "はい") for i in range(50))
    size = len(pickle.dumps(rows))
    split(rows, 0.5)
    assert rows_fingerprint(rows)
    assert len(pickle.dumps(rows)) == size


# Preference pairs


def rows_of(*texts):
    return [Row.of(*text) for text in texts]


def refused_pairs(chosen, rejected):
    with pytest.raises(DataError) as caught:
        align(chosen, rejected, ("D1", "D0"))
    return str(caught.value)


def test_align_same_prompts_in_other_order_pair_up():
    chosen, rejected = rows_of(("a", "1"), ("b", "2")), rows_of(("b", "3"), ("a", "4"))
    pairs = align(chosen, rejected, ("x", "y"))
    found = [(row.prompt, row.completion, row.rejected.text) for row in pairs]
    assert found == [("a", "1", "4"), ("b", "2", "3")]


def test_align_prompt_on_one_side_names_it_and_the_set():
    message = refused_pairs(rows_of(("a", "1"), ("質問", "2")), rows_of(("a", "3"), ("c", "4")))
    assert "only in D1: rows 2 '質問'" in message
    assert "only in D0: rows 2 'c'" in message


def test_align_prompt_twice_names_it():
    message = refused_pairs(rows_of(("a", "1"), ("a", "2")), rows_of(("a", "3")))
    assert "twice in D1: rows 1 'a', 2 'a'" in message


def test_align_same_answer_names_prompt():
    message = refused_pairs(rows_of(("a", "1"), ("b", "2")), rows_of(("a", "9"), ("b", "2")))
    assert "same answer" in message
    assert "'b'" in message
    assert "'a'" not in message


def test_jsonl_shift_jis_in_good_columns_is_refused_with_file(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_bytes('{"prompt": "質問", "completion": "答え"}\n'.encode("shift_jis"))
    assert str(path) in refused(path)
