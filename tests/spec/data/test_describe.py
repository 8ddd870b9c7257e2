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

from raylab.errors import DataError
from raylab.spec.data.dataset import load_data
from raylab.spec.data.describe import describe_files, script_of, spread
from raylab.spec.data.describe_study import describe_study
from raylab.spec.study_file import load_study
from tests.commands import exit_status
from tests.studies import CHAIN, write_jsonl, write_study_folder
from tests.studies import D0 as PLAIN
from tests.studies import D1 as FANCY

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


@pytest.fixture
def pair(tmp_path):
    """A JSON-lines file and a CSV file of the same prompts, whose columns are called otherwise."""
    one = write_jsonl(tmp_path / "a.jsonl", [("a", "b"), ("c", "d")])
    two = tmp_path / "b.csv"
    two.write_text("question,answer\na,B\nc,D\n")
    return one, two


OTHERWISE = ("--prompt", "prompt", "--prompt", "question", "--completion", "",
             "--completion", "answer")  # fmt: skip


def test_describe_command_with_options_for_each_file_tries_them_as_a_pair(pair, capsys):
    assert exit_status("data", "describe", *pair, *OTHERWISE, "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert [item["rows"] for item in found["files"]] == [2, 2]
    assert found["pairs"] == {"rows": 2, "problems": []}


def test_describe_command_with_options_for_some_of_the_files_is_refused(pair, capsys):
    words = [option for _ in range(3) for option in ("--prompt", "q")]
    assert exit_status("data", "describe", *pair, *words) == 2
    assert "3 times for 2 files" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "option"),
    [
        ((), "`--prompt` and `--completion`"),
        (("--prompt", "nix", "--completion", "answer"), "'nix' (`--prompt`)"),
        (("--format", "alpaca", "--prompt", "question"), "`--prompt`"),
        (("--prompt", "question", "--completion", "answer", "--key", "id"), "'id' (`--key`)"),
    ],
)
def test_describe_command_names_the_option_and_no_field_of_a_study(pair, words, option, capsys):
    assert exit_status("data", "describe", pair[1], *words) == 2
    said = capsys.readouterr().out
    assert option in said
    assert ":`" not in said


def test_describe_command_of_preferences_takes_their_columns(tmp_path, capsys):
    path = write_jsonl(tmp_path / "a.jsonl", [("a", "b", "c")], ("prompt", "good", "bad"))
    assert exit_status("data", "describe", path, "--chosen", "good", "--rejected", "bad") == 0
    assert "format preference" in capsys.readouterr().out


def test_describe_command_of_a_study_checks_all_of_its_data(tmp_path, capsys):
    study = write_study_folder(tmp_path)
    assert exit_status("data", "describe", study) == 0
    said = capsys.readouterr().out
    for part in ("D0 (", "D1 (", "D2 (D0 + D1): 24 rows", "a run would take all of this data"):
        assert part in said
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([*FANCY[:-1], ("質問11", "")], "completion is empty in rows 12"),
        (FANCY[:-1], "D0 and D1 as pairs: only in D0: rows 12"),
        (PLAIN, "the same answer is chosen and rejected"),
    ],
)
def test_describe_command_of_a_study_says_what_would_stop_a_run(rows, said, tmp_path, capsys):
    study = write_study_folder(tmp_path)
    write_jsonl(tmp_path / "d1.jsonl", rows)
    assert exit_status("data", "describe", study) == 2
    assert said in capsys.readouterr().out
    # The oracle: what a run says before it does anything.
    with pytest.raises(DataError, match=said.split(": ")[-1]):
        load_data(load_study(study))


def test_describe_study_with_all_rows_held_out_says_so(tmp_path):
    study = write_study_folder(tmp_path, held_out=0.999)
    problems = describe_study(study)["problems"]
    assert set(problems) == {f"recipe {name}" for name in CHAIN}
    assert "held out" in problems["recipe alone"]


def test_describe_command_of_a_study_with_options_or_files_is_refused(tmp_path, capsys):
    study = write_study_folder(tmp_path)
    for words in ((study, "--prompt", "q"), (study, D0)):
        assert exit_status("data", "describe", *words) == 2
        assert "is a study" in capsys.readouterr().err


@pytest.mark.parametrize("option", ["--completion", "--column"])
def test_convert_command_takes_the_options_of_describe(pair, option, tmp_path, capsys):
    out = tmp_path / "c.csv"
    pair[1].write_text("question,answer\na,空は青いです。\n")
    assert exit_status("data", "convert", pair[1], "--style", "ojousama", "--out", out,
                       option, "answer") == 0  # fmt: skip
    assert out.read_text() == "question,answer\na,空は青いですわ。\n"


def test_convert_command_with_too_few_answers_in_the_style_exits_1(tmp_path, capsys):
    source = write_jsonl(tmp_path / "a.jsonl", [("a", "空は青いです。"), ("b", "blue")])
    words = ("data", "convert", source, "--style", "ojousama", "--force", "--out")
    out = tmp_path / "b.jsonl"
    assert exit_status(*words, out) == 1
    said = capsys.readouterr()
    assert "50.0% before" not in said.out and "50.0% after" in said.out
    assert "50.0% of the answers" in said.err and "90.0% are asked" in said.err
    assert exit_status(*words, out, "--at-least", "0.5") == 0
    assert capsys.readouterr().err.startswith("unchanged rows: 2")


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
