"""What a data set holds, as the command says it."""

import json
import statistics
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoTokenizer

from raylab.spec.data.describe import describe_files, script_of, spread
from tests.commands import exit_status
from tests.studies import write_jsonl

DEMO = Path(__file__).parents[3] / "jobs" / "demo"
D0, D1 = (DEMO / "data" / name for name in ("d0.jsonl", "d1.jsonl"))


def test_describe_demo_counts_what_is_there():
    found = describe_files([D0, D1])
    d0, d1 = found["files"]
    answers = [json.loads(line)["completion"] for line in D0.read_text().splitlines()]
    lengths = d0["lengths"]["characters"]["answer"]
    assert d0["rows"] == d0["distinct_prompts"] == len(answers) == found["pairs"]["rows"]
    assert (lengths["min"], lengths["max"]) == (min(map(len, answers)), max(map(len, answers)))
    assert lengths["median"] == statistics.median_low(map(len, answers))
    assert d1["styles"]["ojousama"] == 1
    assert d0["styles"]["ojousama"] == 0
    assert d0["scripts"]["japanese"] == 1
    assert not [*d0["problems"], *d0["warnings"], *found["pairs"]["problems"]]


def test_describe_with_tokenizer_counts_its_tokens():
    (found,) = describe_files([D0], str(DEMO / "base"))["files"]
    tokenizer = AutoTokenizer.from_pretrained(DEMO / "base")
    answers = [json.loads(line)["completion"] for line in D0.read_text().splitlines()]
    counts = [len(tokenizer.encode(text, add_special_tokens=False)) for text in answers]
    tokens = found["lengths"]["tokens"]["answer"]
    assert (tokens["min"], tokens["max"]) == (min(counts), max(counts))
    assert tokens["median"] == statistics.median_low(counts)


def test_describe_loads_nothing_heavy_without_a_tokenizer():
    code = (
        "import sys; from raylab.cli import main\n"
        "try: main(['data', 'describe', sys.argv[1]])\n"
        "except SystemExit as end: assert not end.code\n"
        "heavy = {'torch', 'ray', 'transformers', 'datasets', 'pandas', 'sudachipy'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(D0)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_describe_command_names_problems_and_exits_2(tmp_path, capsys):
    path = write_jsonl(tmp_path / "a.jsonl", [("a", "b"), ("c", ""), ("a", "答え\ufffd")])
    assert exit_status("data", "describe", path) == 2
    out = capsys.readouterr().out
    for part in (
        "2 rows, format text",
        "completion is empty in rows 2",
        "lost, in rows 3",
        "(as 1)",
    ):
        assert part in out


def test_describe_command_of_two_sides_that_are_no_pairs_says_why(tmp_path, capsys):
    one = write_jsonl(tmp_path / "a.jsonl", [("a", "b")])
    two = write_jsonl(tmp_path / "b.jsonl", [("a", "b")])
    assert exit_status("data", "describe", one, two, "--json") == 0
    (problem,) = json.loads(capsys.readouterr().out)["pairs"]["problems"]
    assert "the same answer" in problem


def test_describe_command_of_named_columns_reads_them(tmp_path, capsys):
    path = write_jsonl(tmp_path / "a.jsonl", [("a", "b")], ("q", "a"))
    assert exit_status("data", "describe", path, "--prompt", "q", "--completion", "a") == 0
    assert "1 rows, format text" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [(("--format", "xml"), "no such format"), (("--tokenizer", "nowhere"), "cannot be loaded")],
)
def test_describe_command_refuses_options(words, message, capsys):
    assert exit_status("data", "describe", D0, *words) == 2
    assert message in capsys.readouterr().err


def test_convert_command_says_what_it_did(tmp_path, capsys):
    out = tmp_path / "d1.jsonl"
    assert exit_status("data", "convert", D0, "--style", "ojousama", "--out", out) == 0
    assert "407 of 407 answers rewritten" in capsys.readouterr().out
    assert exit_status("data", "convert", D0, "--style", "ojousama", "--out", out) == 2
    assert "there already" in capsys.readouterr().err


@given(st.lists(st.integers(0, 50), min_size=1))
def test_spread_is_made_of_values_that_occur(values):
    found = spread(values)
    assert set(found.values()) <= set(values)
    assert (found["min"], found["max"]) == (min(values), max(values))
    assert found["median"] == statistics.median_low(values)
    assert sum(value <= found["p95"] for value in values) >= 0.95 * len(values)


@pytest.mark.parametrize(
    ("text", "script"),
    [
        ("空は青いです。", "japanese"),
        ("OKです、はい", "japanese"),
        ("天空", "han"),
        ("The sky", "latin"),
        ("Ｓｋｙ", "latin"),
        ("небо", "other"),
        ("123。", "none"),
        ("", "none"),
    ],
)
def test_script_of_text_is_told(text, script):
    assert script_of(text) == script
