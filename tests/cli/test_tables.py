"""The verbs that look at a store, as a user types them."""

from __future__ import annotations

import csv
import io
import json

import pytest
from ruamel.yaml import YAML

from raylab.store.filesystem import Store
from raylab.store.tables import read_table, rows_of
from tests.commands import exit_status
from tests.report.conftest import make_study, name_of, write_study


@pytest.fixture
def out(tmp_path):
    store, stream = Store(str(tmp_path)), io.StringIO()
    write_study(store)
    dumped = make_study().model_dump(mode="json", exclude_none=True)
    YAML(typ="safe", pure=True).dump(dumped, stream)
    store.write("study.yaml", stream.getvalue().encode())
    return str(tmp_path)


def run(capsys, *words):
    """(exit status, standard output, standard error) of one command."""
    status = exit_status(*words)
    said = capsys.readouterr()
    return status, said.out, said.err


def test_table_csv_has_every_row_and_digit(out, capsys):
    status, text, _ = run(capsys, "table", "norms", out, "--format", "csv")
    rows = list(csv.DictReader(io.StringIO(text)))
    expected = rows_of(read_table(Store(out), "norms"))
    assert status == 0 and len(rows) == len(expected)
    assert [float(row["l2"]) for row in rows] == [row["l2"] for row in expected]


def test_table_json_is_filtered_sorted_and_cut_to_columns(out, capsys):
    words = ["--filter", "method=dpo", "--filter", "status=done", "--sort", "-l2"]
    status, text, _ = run(
        capsys, "table", "trials", out, *words, "--column", "name", "--column", "l2",
        "--format", "json",
    )  # fmt: skip
    rows = json.loads(text)
    trials = rows_of(read_table(Store(out), "trials"))
    expected = [t for t in trials if t["method"] == "dpo" and t["status"] == "done"]
    expected.sort(key=lambda row: -row["l2"])
    assert status == 0
    assert rows == [{"name": row["name"], "l2": row["l2"]} for row in expected]


def test_table_for_a_terminal_fits_and_says_what_it_left_out(out, capsys):
    status, text, _ = run(capsys, "table", "trials", out)
    assert status == 0
    assert max(map(len, text.splitlines())) <= 120
    assert text.rstrip().endswith("22 rows")
    assert "no room for" in text and name_of("dpo-d1-d1", 100) in text


def test_table_markdown_and_latex_hold_the_same_cells(out, capsys):
    words = ["table", "densities", out, "--filter", "density=0.5", "--column", "threshold"]
    markdown = run(capsys, *words, "--format", "markdown")[1]
    latex = run(capsys, *words, "--format", "latex")[1]
    value = repr(0.000123456 / 0.5)
    assert f"| {value} |" in markdown and f"{value} \\\\" in latex
    assert latex.startswith("\\begin{longtable}{r}")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["table", "nix", "{out}"], "trials, attempts, samples"),
        (["table", "trials", "{out}/none"], "no results are there"),
        (["table", "trials", "{out}", "--filter", "l9>3"], "no such column"),
        (["table", "trials", "{out}", "--filter", "l2"], "not understood"),
        (["table", "trials", "{out}", "--format", "xml"], "xml"),
        (["compare", "{out}", "{out}/none"], "no study is there"),
        (["report", "jobs/demo/study.yaml", "--lang", "fr"], "fr"),
    ],
)
def test_wrong_input_is_one_message_and_exit_2(out, capsys, words, said):
    status, text, error = run(capsys, *(word.replace("{out}", out) for word in words))
    assert (status, text) == (2, "")
    assert said in error and "Traceback" not in error


def test_compare_json_has_every_number_once(out, capsys):
    status, text, _ = run(capsys, "compare", out, out, "--json")
    found = json.loads(text)
    assert status == 0 and found["asked"] == []
    keys = [(row["what"], row["name"], row["metric"]) for row in found["numbers"]]
    assert len(keys) == len(set(keys)) > 50
    assert {row["verdict"] for row in found["numbers"]} == {"same"}


def test_compare_out_writes_the_page_beside_what_it_prints(out, capsys, tmp_path_factory):
    place = tmp_path_factory.mktemp("place")
    plain = run(capsys, "compare", out, out)
    for language, end in (("en", ""), ("ja", ".ja")):
        status, text, error = run(capsys, "compare", out, out, "--out", str(place),
                                  "--lang", language)  # fmt: skip
        assert (status, text) == (0, plain[1])
        assert error == f"page: {place}/compare{end}.html\n"
    assert {path.name for path in place.iterdir()} == {
        "compare.html", "compare.md", "compare.ja.html", "compare.ja.md",
    }  # fmt: skip


def test_compare_out_that_cannot_be_written_is_one_message(out, capsys, tmp_path_factory):
    file = tmp_path_factory.mktemp("place") / "file"
    file.write_text("")
    status, text, error = run(capsys, "compare", out, out, "--out", str(file))
    assert (status, text) == (2, "") and "cannot be written" in error
