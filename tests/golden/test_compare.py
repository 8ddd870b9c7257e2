"""The comparer finds the smallest change, says its size, and never calls two recordings equal."""

import copy
import json
import math

import pyarrow as pa
import pytest
from pyarrow import parquet

from tests.golden.compare import main
from tests.golden.outputs import VARIES, Outputs, file_names

ROWS = {
    "one~two | delta | 0.1": {"l2": 10.98, "num_keep": 100, "note": None},
    "one~two | delta | 0.2": {"l2": 13.75, "num_keep": 200, "note": None},
}
DOCUMENT = {
    "tables": {"densities": {"rows": ROWS}},
    "trials": [{"name": "demo.sft.s42", "trial_id": "b68f1f68c1eb262b"}],
    "files": ["study.yaml", "trials/demo.sft.s42-b68f1f68c1eb262b/record.json"],
    "zero": 0.0,
}
FIRST = "one~two | delta | 0.1"


def write(folder, document, about="one CPU"):
    folder.mkdir()
    (folder / "about.json").write_text(json.dumps({"cpu": about, "code": str(folder)}))
    (folder / "study.json").write_text(json.dumps(document))
    return str(folder)


@pytest.fixture
def compare(tmp_path, capsys):
    """Compares DOCUMENT with what `change` makes of it: (exit status, what is printed)."""

    def run(change, *options):
        changed = copy.deepcopy(DOCUMENT)
        change(changed)
        old, new = write(tmp_path / "old", DOCUMENT), write(tmp_path / "new", changed)
        status = main([old, new, *options])
        return status, capsys.readouterr().out

    return run


def row(document):
    return document["tables"]["densities"]["rows"][FIRST]


def set_l2(value):
    return lambda document: row(document).update(l2=value)


def test_compare_equal_recordings_exits_0(compare):
    assert compare(lambda document: None) == (0, "study: no differences\n")


def test_compare_changed_last_bit_is_found_with_its_size(compare):
    status, printed = compare(set_l2(math.nextafter(10.98, 11)))
    assert status == 1
    line = printed.splitlines()[0]
    assert line.startswith(f"study / tables / densities / rows / {FIRST} / l2: was 10.98 and is ")
    assert line.endswith("(relative 1.6e-16, 1 ulp)")
    assert "study, l2: 1 values, at most 1 ulp" in printed


def test_compare_missing_row_is_named(compare):
    status, printed = compare(lambda made: made["tables"]["densities"]["rows"].pop(FIRST))
    assert status == 1
    assert f"study / tables / densities / rows / {FIRST}: is missing" in printed
    assert "1 differences" in printed


def test_compare_new_row_is_named(compare):
    status, printed = compare(lambda made: made["tables"]["densities"]["rows"].update(new={}))
    assert status == 1 and "rows / new: is new" in printed


def test_compare_changed_id_is_found_in_documents_and_file_names(compare):
    def change(document):
        document["trials"][0]["trial_id"] = "91ef225164051829"
        document["files"][1] = "trials/demo.sft.s42-91ef225164051829/record.json"

    status, printed = compare(change)
    assert status == 1
    assert (
        "study / trials / 0 demo.sft.s42 / trial_id: "
        'was "b68f1f68c1eb262b" and is "91ef225164051829"'
    ) in printed
    assert 'study / files: lacks "trials/demo.sft.s42-b68f1f68c1eb262b/record.json"' in printed
    assert 'has the new entry "trials/demo.sft.s42-91ef225164051829/record.json"' in printed


@pytest.mark.parametrize(
    "change",
    [
        lambda made: made.update(zero=-0.0),
        lambda made: made.update(zero=0),
        lambda made: made.update(zero=None),
        lambda made: made.update(zero=math.nan),
        lambda made: row(made).update(num_keep=101),
        lambda made: row(made).update(num_keep=100.0),
        lambda made: row(made).update(note=""),
        lambda made: made["trials"].append(made["trials"][0]),
        lambda made: made["files"].reverse(),
        lambda made: made["files"].append(made["files"][0]),
    ],
)
def test_compare_any_other_value_type_length_or_order_is_a_difference(compare, change):
    assert compare(change)[0] == 1


@pytest.mark.parametrize(
    ("steps", "option", "status"),
    [
        (3, ("--ulp", "3"), 0),
        (4, ("--ulp", "3"), 1),
        (4, ("--relative", "1e-15"), 0),
        (40, ("--relative", "1e-15"), 1),
    ],
)
def test_compare_bounds_allow_floats_within_them_and_state_the_size(compare, steps, option, status):
    found, printed = compare(set_l2(10.98 + steps * math.ulp(10.98)), *option)
    assert found == status
    word = "beyond" if status else "within"
    assert f"differ {word} the bounds given:" in printed
    assert f"study, l2: 1 values, at most {steps} ulp" in printed


def test_compare_bounds_never_allow_a_changed_count(compare):
    change = compare(lambda made: row(made).update(num_keep=101), "--relative", "1", "--ulp", "99")
    assert change[0] == 1


def test_compare_ignored_key_is_left_out_and_no_other(compare):
    def change(document):
        row(document)["l2"] = 1.0
        row(document)["num_keep"] = 1

    status, printed = compare(change, "--ignore", "l2")
    assert status == 1 and "num_keep" in printed and "10.98" not in printed


def test_compare_missing_part_is_a_difference_unless_left_out(tmp_path, capsys):
    old, new = write(tmp_path / "old", DOCUMENT), write(tmp_path / "new", DOCUMENT)
    (tmp_path / "old" / "diff.json").write_text("{}")
    assert main([old, new]) == 1
    assert "diff: is missing" in capsys.readouterr().out
    assert main([old, new, "--only", "study"]) == 0
    assert main([old, new, "--only", "diff"]) == 2


def test_compare_folder_without_a_recording_exits_2(tmp_path):
    old = write(tmp_path / "old", DOCUMENT)
    assert main([old, str(tmp_path / "nowhere")]) == 2


def test_compare_another_machine_is_noted_and_another_place_of_the_code_is_not(tmp_path, capsys):
    old, new = write(tmp_path / "old", DOCUMENT), write(tmp_path / "new", DOCUMENT, "another CPU")
    assert main([old, new]) == 0
    printed = capsys.readouterr().out
    assert "another CPU" in printed and printed.count("note:") == 1


def test_outputs_of_a_table_keep_what_counts_and_the_names_of_what_varies(tmp_path):
    rows = [
        {"comparison": "b~c", "view": "delta", "density": 0.1, "l2": 0.1 + 0.2, "seconds": 3.0},
        {"comparison": "a~b", "view": "delta", "density": 0.1, "l2": -0.0, "seconds": 4.0},
    ]
    (tmp_path / "tables").mkdir()
    parquet.write_table(pa.Table.from_pylist(rows), tmp_path / "tables" / "densities.parquet")
    made = Outputs({}).tables(tmp_path / "tables")["densities"]
    assert list(made["rows"]) == ["a~b | delta | 0.1", "b~c | delta | 0.1"]
    assert json.loads(json.dumps(made))["rows"]["b~c | delta | 0.1"]["l2"] == 0.30000000000000004
    assert {row["seconds"] for row in made["rows"].values()} == {VARIES}
    assert made["columns"]["l2"] == "double"
    parquet.write_table(pa.Table.from_pylist(rows[::-1]), tmp_path / "tables" / "densities.parquet")
    other = Outputs({}).tables(tmp_path / "tables")["densities"]
    assert other["rows"] == made["rows"]
    assert other["order of rows"] != made["order of rows"]


def test_outputs_addresses_and_times_in_names_are_replaced(tmp_path):
    assert Outputs({"/tmp/x": "WORK"}).plain({"a": ["/tmp/x/out#b"]}) == {"a": ["WORK/out#b"]}
    for name in ("state-2026-11-30_02-00-47.json", "events.out.tfevents.1796004052.vm"):
        (tmp_path / name).touch()
    assert file_names(tmp_path) == ["events.out.tfevents.TIME.HOST", "state-TIME.json"]
