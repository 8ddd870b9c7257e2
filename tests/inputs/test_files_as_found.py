"""Files as people have them: compressed, JSON lines under another name, saved by `datasets`."""

import bz2
import gzip
import json

import pyarrow as pa
import pytest
from datasets import Dataset, DatasetDict

from raylab.errors import DataError
from raylab.spec.data.dataset import read_data_set
from raylab.spec.data.rows import Row
from raylab.spec.sources import DataSet
from tests.commands import exit_status

RECORDS = [{"prompt": f"質問{n}", "completion": f"答え{n}"} for n in range(3)]
ROWS = [Row.of(*record.values()) for record in RECORDS]
LINES = "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in RECORDS)
TEXTS = {
    "jsonl": LINES,
    "json": json.dumps(RECORDS),
    "csv": "prompt,completion\n" + "".join(",".join(r.values()) + "\n" for r in RECORDS),
}


def found(path, **fields):
    return read_data_set("D", DataSet(path=str(path), **fields))


def zstd(data):
    return pa.Codec("zstd").compress(data, asbytes=True)


PACKED = {".gz": gzip.compress, ".bz2": bz2.compress, ".zst": zstd}


@pytest.mark.parametrize("ending", PACKED)
@pytest.mark.parametrize("kind", TEXTS)
def test_compressed_text_is_the_text(kind, ending, tmp_path):
    path = tmp_path / f"a.v1.{kind}{ending}"
    path.write_bytes(PACKED[ending](TEXTS[kind].encode()))
    assert found(path)[:3] == (ROWS, ["1", "2", "3"], [])


def test_directory_of_compressed_shards_is_read_in_order(tmp_path):
    for number, line in enumerate(LINES.splitlines()):
        path = tmp_path / f"part-{number}.jsonl{'.gz' if number else ''}"
        path.write_bytes((gzip.compress if number else bytes)(line.encode()))
    assert found(tmp_path).rows == ROWS


@pytest.mark.parametrize("ending", PACKED)
def test_compressed_text_that_is_cut_or_is_none_says_so(ending, tmp_path):
    path = tmp_path / f"a.jsonl{ending}"
    for content in (PACKED[ending](LINES.encode() * 99)[:-20], LINES.encode()):
        path.write_bytes(content)
        assert any("the file cannot be read" in problem for problem in found(path).problems)


@pytest.mark.parametrize("name", ["a.parquet.gz", "a.gz", "a.zip"])
def test_file_of_an_unknown_kind_names_the_known_ones(name, tmp_path):
    (tmp_path / name).write_bytes(b"x")
    (problem,) = found(tmp_path / name).problems
    assert (
        "expected .jsonl, .ndjson, .jsonlines, .json, .csv, .parquet, .arrow (texts also" in problem
    )


@pytest.mark.parametrize("name", ["a.ndjson", "a.jsonlines", "a.ndjson.gz"])
def test_json_lines_of_other_endings_are_read(name, tmp_path):
    path = tmp_path / name
    path.write_bytes((gzip.compress if name.endswith("gz") else bytes)(LINES.encode()))
    assert found(path).rows == ROWS


@pytest.mark.parametrize("mark", [";", "\t", "|"])
def test_csv_of_another_separator_says_which(mark, tmp_path):
    (tmp_path / "a.csv").write_text(TEXTS["csv"].replace(",", mark))
    (problem,) = found(tmp_path / "a.csv").problems
    assert problem == f"the header has {mark!r} between its columns; expected commas"


def test_directory_leaves_out_what_hubs_and_file_systems_keep_beside_rows(tmp_path):
    (tmp_path / "a.jsonl").write_text(LINES)
    (tmp_path / "dataset_infos.json").write_text("{}")
    (tmp_path / "._a.jsonl").write_bytes(b"\x00\x05\x16\x07")
    read = found(tmp_path)
    assert (read.rows, read.problems) == (ROWS, [])
    assert read.notes == ["files of the directory that are not read: ._a.jsonl"]
    (tmp_path / "._a.jsonl").rename(tmp_path / "_b.jsonl")
    assert found(tmp_path).problems


# JSON


@pytest.mark.parametrize("text", [LINES, "\n" + LINES.replace("\n", "\r\n"), LINES.rstrip()])
def test_json_lines_under_the_name_of_json_are_read(text, tmp_path):
    (tmp_path / "a.json").write_text(text, newline="")
    assert found(tmp_path / "a.json").rows == ROWS


def test_json_of_one_row_is_read(tmp_path):
    (tmp_path / "a.json").write_text(json.dumps(RECORDS[0], indent=1))
    assert found(tmp_path / "a.json").rows == ROWS[:1]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (json.dumps({"data": RECORDS}), "one object whose field 'data' holds the rows"),
        (json.dumps({"version": 1, "data": RECORDS}), "one object whose field 'data' holds"),
        (json.dumps({"train": RECORDS, "test": RECORDS}), "whose field 'train' and 'test' holds"),
        (
            json.dumps({"prompt": ["a", "b"], "completion": ["c", "d"]}),
            "one object of columns (prompt, completion); expected a list of rows (pandas writes",
        ),
        (json.dumps({"prompt": {"0": "a"}, "completion": {"0": "b"}}), "one object of columns"),
        (json.dumps([RECORDS]), "a list; expected the columns by name, as in {"),
        (json.dumps(RECORDS)[:-5], "the file is no JSON"),
        (LINES + "nonsense", "no JSON (Expecting value) in rows 4"),
        ("7", "the file is no list of rows: 7"),
    ],
)
def test_json_of_another_shape_says_which(text, said, tmp_path):
    (tmp_path / "a.json").write_text(text)
    (problem,) = found(tmp_path / "a.json").problems
    assert said in problem


def test_json_of_one_conversation_is_a_row_and_not_rows(tmp_path):
    turns = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    (tmp_path / "a.json").write_text(json.dumps({"messages": turns}))
    assert found(tmp_path / "a.json").rows == [Row.of("a", "b")]


@pytest.mark.parametrize(
    ("line", "field"),
    [
        ('{"prompt": "a", "prompt": "c", "completion": "b"}', "prompt"),
        (
            '{"messages": [{"role": "user", "content": "a", "content": "c"}, '
            '{"role": "assistant", "content": "b"}]}',
            "content",
        ),
    ],
)
def test_field_that_is_there_twice_is_refused_by_row(line, field, tmp_path):
    (tmp_path / "a.jsonl").write_text(f'{{"prompt": "a", "completion": "b"}}\n{line}\n')
    problem = found(tmp_path / "a.jsonl").problems[-1]
    assert f"an object has the field {field!r} twice" in problem
    assert problem.endswith("in rows 2")


def test_directory_of_several_splits_says_that_all_are_read(tmp_path):
    for name in ("train-00000.jsonl", "test-00000.jsonl"):
        (tmp_path / name).write_text('{"prompt": "a", "completion": "b"}\n')
    (tmp_path / "README.md").write_text("About it.")
    (note,) = found(tmp_path).notes
    assert note.startswith("the directory holds files of several splits, and all of them are read")
    (tmp_path / "test-00000.jsonl").unlink()
    assert found(tmp_path).notes == []
    (tmp_path / "more.tsv").write_text("a")
    assert found(tmp_path).notes == ["files of the directory that are not read: more.tsv"]


# What `datasets` saves


def test_saved_data_set_is_read_as_datasets_reads_it(tmp_path):
    saved = Dataset.from_list(RECORDS)
    saved.select([2, 0]).save_to_disk(tmp_path / "some", num_shards=2)
    assert found(tmp_path / "some")[:2] == ([ROWS[2], ROWS[0]], ["1", "2"])
    with_more = saved.add_column("n", [1, 2, 3]).with_format(columns=["prompt", "completion"])
    with_more.save_to_disk(tmp_path / "shown")
    assert (found(tmp_path / "shown").rows, found(tmp_path / "shown").notes) == (ROWS, [])


def test_saved_splits_are_chosen_by_name(tmp_path):
    splits = {"train": RECORDS[:2], "test": RECORDS[2:]}
    DatasetDict({k: Dataset.from_list(v) for k, v in splits.items()}).save_to_disk(tmp_path / "d")
    assert found(tmp_path / "d").rows == ROWS[:2]
    assert found(tmp_path / "d", split="test").rows == ROWS[2:]
    (problem,) = found(tmp_path / "d", split="dev").problems
    assert problem.startswith("the folder has the splits train, test, and not 'dev'")


def test_arrow_file_alone_is_read(tmp_path):
    table = pa.Table.from_pylist(RECORDS)
    for name, new in (("stream", pa.ipc.new_stream), ("file", pa.ipc.new_file)):
        path = tmp_path / f"{name}.arrow"
        with pa.OSFile(str(path), "wb") as sink, new(sink, table.schema) as writer:
            writer.write_table(table, max_chunksize=2)
        assert found(path)[:2] == (ROWS, ["1", "2", "3"])
    (tmp_path / "bad.arrow").write_bytes(b"nonsense")
    assert "cannot be read" in found(tmp_path / "bad.arrow").problems[0]


def test_split_of_a_file_is_refused(tmp_path):
    (tmp_path / "a.jsonl").write_text(LINES)
    (problem,) = found(tmp_path / "a.jsonl", split="test").problems
    assert "it has no splits, so `split: test` says nothing" in problem


# Hub data sets; a directory stands in for an id of the hub: the same loader reads both


@pytest.fixture
def hub(tmp_path, monkeypatch):
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    folder = tmp_path / "hub"
    folder.mkdir()
    for name, record in zip("abc", RECORDS, strict=True):
        (folder / f"{name}.jsonl").write_text(json.dumps(record))
    (folder / "README.md").write_text(
        "---\nconfigs:\n- config_name: one\n  data_files: a.jsonl\n"
        "- config_name: two\n  data_files:\n  - {split: train, path: b.jsonl}\n"
        "  - {split: test, path: c.jsonl}\n---\n"
    )
    return folder


@pytest.mark.parametrize(
    ("fields", "rows"),
    [
        ({"config": "one"}, ROWS[:1]),
        ({"config": "two"}, ROWS[1:2]),
        ({"config": "two", "split": "test"}, ROWS[2:]),
        ({"data_files": "b.jsonl"}, ROWS[1:2]),
        ({"data_files": ["a.jsonl", "c.jsonl"]}, [ROWS[0], ROWS[2]]),
    ],
)
def test_hub_set_is_read_as_the_study_says(fields, rows, hub):
    assert read_data_set("D", DataSet(hub=str(hub), **fields)).rows == rows


@pytest.mark.parametrize(
    ("fields", "todo"),
    [
        ({}, "`config:`"),
        ({"config": "three"}, "`config:`"),
        ({"config": "one", "split": "dev"}, "`split:`"),
    ],
)
def test_hub_set_that_is_not_named_fully_says_what_there_is(fields, todo, hub):
    with pytest.raises(DataError) as caught:
        read_data_set("D", DataSet(hub=str(hub), **fields))
    assert f"name one of these with {todo}" in str(caught.value)
    there = "['train']" if todo == "`split:`" else "['one', 'two']"
    assert there in str(caught.value)


def test_fields_of_a_hub_beside_a_path_are_refused():
    for field in ("config", "data_files"):
        with pytest.raises(ValueError, match=f"`{field}` belongs to a `hub` id"):
            DataSet(path="a.jsonl", **{field: "x"})


def test_convert_of_a_compressed_file_is_refused(tmp_path, capsys):
    path = tmp_path / "a.jsonl.gz"
    path.write_bytes(gzip.compress(LINES.encode()))
    words = ("data", "convert", path, "--style", "ojousama", "--out", tmp_path / "b.jsonl.gz")
    assert exit_status(*words) == 2
    assert "read and not written" in capsys.readouterr().err
