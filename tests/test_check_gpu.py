"""`jobs/check_gpu.py`: what runs the checks, with small ones, and some real ones on the CPU."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

JOBS = Path(__file__).parents[1] / "jobs"
NAMES = (
    "quantisation", "merges", "reduction", "training", "repeatability", "out-of-memory", "ray",
    "memory", "speed",
)  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def _jobs_on_the_path():
    sys.path.insert(0, str(JOBS))
    yield
    sys.path.remove(str(JOBS))


@pytest.fixture
def job(_jobs_on_the_path):
    import check_gpu

    return check_gpu


@pytest.fixture
def run(job, tmp_path, capsys):
    """Runs small checks by name, with options: (exit status, document, what was printed)."""

    def call(*names, options=(), device="cpu", needs_gpu=()):
        checks = [
            job.Check(name, f"tests.small_checks:{name}", 1, "shows", name in needs_gpu)
            for name in names
        ]
        words = ["--device", device, "--out", str(tmp_path), "--directory", str(tmp_path)]
        status = job.main([*words, *options], checks)
        said = capsys.readouterr()
        file = tmp_path / "check_gpu.json"
        document = json.loads(file.read_text()) if file.exists() else None
        return status, document, said

    return call


def verdicts(document):
    return {check["name"]: check["verdict"] for check in document["checks"]}


def is_alive(process):
    try:
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def test_checks_that_hold_exit_0_with_a_line_each_a_table_and_the_document(run, tmp_path):
    status, document, said = run("holds", "tells_its_setting")
    assert status == 0
    assert document["complete"]
    (first, second) = document["checks"]
    assert first["claims"] == [{"what": "one and one are two", "holds": True, "found": "2"}]
    assert first["figures"] == [{"what": "answer", "value": 42, "unit": "units"}]
    assert first["headline"] == "all is well" and first["verdict"] == "held"
    figures = {figure["what"]: figure["value"] for figure in second["figures"]}
    left = figures.pop("seconds left")
    assert figures == {"device": "cpu", "sees": "", "size": "cpu", "quick": False}
    assert 300 < left < 900
    lines = said.out.splitlines()
    assert any(line.startswith("holds ") and " held " in line for line in lines)
    assert any(
        line.startswith("| holds | held | all is well; 1 of 1 claims hold") for line in lines
    )
    assert lines[-1] == str(tmp_path / "check_gpu.json")
    assert document["machine"]["torch"] == torch.__version__
    assert [file.name for file in tmp_path.iterdir()] == ["check_gpu.json"]


def test_checks_that_fail_raise_or_die_exit_1_and_the_others_go_on(run):
    status, document, said = run("fails", "raises", "dies", "finds_nothing", "holds")
    assert status == 1
    assert verdicts(document) == {
        "fails": "not held",
        "raises": "not held",
        "dies": "not held",
        "finds_nothing": "not held",
        "holds": "held",
    }
    fails, raises, dies, nothing, _ = document["checks"]
    assert fails["why"] == "one is two: found 1" and len(fails["claims"]) == 2
    assert raises["why"] == "ZeroDivisionError: nothing can be divided by it"
    assert "small_checks.py" in raises["traceback"] and raises["figures"][0]["value"] == 1
    assert "-9" in dies["why"] and "last words" in dies["traceback"]
    assert dies["figures"][0]["what"] == "before"
    assert "nothing was checked" in nothing["why"]
    assert "- fails: not held: one is two: found 1" in said.out


def test_check_that_is_impossible_or_needs_a_gpu_does_not_fail(run):
    status, document, _ = run("is_impossible", "raises", needs_gpu=("raises",))
    assert status == 0
    assert set(verdicts(document).values()) == {"not possible here"}
    assert [check["why"] for check in document["checks"]] == ["no such device", "needs a GPU"]


def test_claim_that_fails_before_a_check_is_impossible_counts(run):
    status, document, _ = run("fails_and_is_impossible")
    assert status == 1
    assert document["checks"][0]["why"] == "one is two: found 1"


def test_aim_that_is_missed_is_said_and_fails_nothing(run):
    status, document, said = run("misses_its_aim")
    assert status == 0
    assert [figure["met"] for figure in document["checks"][0]["figures"]] == [False, True]
    assert "- misses_its_aim: below the aim: rate: 3 of 100 entries/s" in said.out


def test_parts_without_time_or_gpu_are_named(run):
    status, document, said = run("leaves_out")
    assert status == 0
    assert document["checks"][0]["left_out"] == [
        {"what": "the long part", "why": "its time was up"},
        {"what": "the part on a GPU", "why": "needs a GPU"},
    ]
    assert "left out, its time was up: the long part" in said.out


def test_check_that_hangs_is_ended_with_what_it_started_and_the_next_runs(
    run, tmp_path, monkeypatch
):
    marker = tmp_path / "marker"
    monkeypatch.setenv("SMALL_CHECKS_MARKER", str(marker))
    status, document, _ = run("hangs", "holds", options=["--minutes", "0.5"])
    assert status == 1
    assert verdicts(document) == {"hangs": "not held", "holds": "held"}
    hangs = document["checks"][0]
    assert "its time was up" in hangs["why"] and hangs["figures"][0]["value"] == 1
    assert not is_alive(int(marker.read_text()))


def test_time_that_a_check_does_not_use_goes_to_those_after_it(run):
    _, document, _ = run("tells_its_setting", "holds", options=["--minutes", "10"])
    first = document["checks"][0]["figures"]
    _, document, _ = run("holds", "tells_its_setting", options=["--minutes", "10"])
    last = document["checks"][1]["figures"]
    early, late = (
        next(figure["value"] for figure in found if figure["what"] == "seconds left")
        for found in (first, last)
    )
    assert 200 < early < 300 < late < 600


def test_only_runs_those_in_the_order_of_the_table(run):
    status, document, _ = run(
        "holds", "raises", "leaves_out", options=["--only", "leaves_out", "--only", "holds"]
    )
    assert status == 0
    assert [*verdicts(document)] == ["holds", "leaves_out"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--only", "holds", "--only", "speeed"], ["speeed", "expected: holds, raises"]),
        (["--minutes", "0"], ["minutes above 0"]),
        (["--out", "/nowhere/at/all.json"], ["/nowhere/at/all.json", "a folder that is there"]),
        (["--directory", "/nowhere"], ["/nowhere"]),
    ],
)
def test_wrong_option_exits_2_with_one_message_and_writes_nothing(run, options, words):
    status, document, said = run("holds", "raises", options=options)
    assert status == 2 and document is None
    assert said.err.startswith("check_gpu: ") and said.out == ""
    assert all(word in said.err for word in words)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_cuda_without_a_gpu_exits_2(run):
    status, document, said = run("holds", device="cuda")
    assert status == 2 and document is None
    assert "torch sees no GPU" in said.err and "--device cpu" in said.err


def test_document_may_be_a_file_of_any_name(run, tmp_path):
    status, _, said = run("holds", options=["--out", str(tmp_path / "mine.json")])
    assert status == 0
    assert json.loads((tmp_path / "mine.json").read_text())["complete"]
    assert said.out.splitlines()[-1] == str(tmp_path / "mine.json")


KILLED = """
import sys
sys.path[:0] = [sys.argv[1], sys.argv[2]]
from check_gpu import Check, main
if __name__ == "__main__":
    checks = [Check(n, f"tests.small_checks:{n}", 1, "shows") for n in ("holds", "hangs")]
    sys.exit(main(["--device", "cpu", "--out", sys.argv[3], "--directory", sys.argv[3]], checks))
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_run_that_is_killed_leaves_what_is_known(number, tmp_path):
    (tmp_path / "script.py").write_text(KILLED)
    (tmp_path / "out").mkdir()
    marker, file = tmp_path / "marker", tmp_path / "out" / "check_gpu.json"
    command = [sys.executable, "script.py", str(JOBS), str(JOBS.parent), str(tmp_path / "out")]
    environment = {**os.environ, "SMALL_CHECKS_MARKER": str(marker)}
    with (tmp_path / "said").open("w") as said:
        process = subprocess.Popen(command, cwd=tmp_path, env=environment, stderr=said)
    deadline = time.monotonic() + 120
    while not (marker.exists() and marker.read_text()):
        assert time.monotonic() < deadline, (tmp_path / "said").read_text()
        time.sleep(0.05)
    process.send_signal(number)
    process.wait(timeout=60)
    document = json.loads(file.read_text())
    child = int(marker.read_text())
    while is_alive(child):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    if number == signal.SIGKILL:
        assert verdicts(document) == {"holds": "held", "hangs": "running"}
    else:
        assert process.returncode == 1
        assert "interrupted" in (tmp_path / "said").read_text()
        assert verdicts(document) == {"holds": "held", "hangs": "not held"}
    assert not document["complete"]
    assert document["checks"][0]["claims"][0]["holds"]
    assert document["checks"][1]["figures"][0]["what"] == "before"


def test_table_has_every_check_and_its_functions_are_there(job):
    import ast

    assert [check.name for check in job.CHECKS] == list(NAMES)
    for check in job.CHECKS:
        module, _, name = check.function.partition(":")
        tree = ast.parse((JOBS / f"{module.replace('.', '/')}.py").read_text())
        assert name in [node.name for node in tree.body if isinstance(node, ast.FunctionDef)]


def test_page_names_every_check_and_option():
    page = (JOBS.parent / "docs" / "gpu.md").read_text()
    for name in NAMES:
        assert f"| `{name}` |" in page and f"\n| {name} |" in page
    help_text = subprocess.run(
        [sys.executable, str(JOBS / "check_gpu.py"), "--help"],
        cwd="/",
        env={**os.environ, "PYTHONPATH": str(JOBS.parent)},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    options = set(re.findall(r"--[a-z]+", help_text)) - {"--help"}
    assert len(options) == 6
    for option in options:
        assert f"`{option}" in page, option


def test_modules_of_checks_have_at_most_300_lines():
    files = [*(JOBS / "gpu_checks").glob("*.py"), JOBS / "check_gpu.py"]
    assert len(files) > 10
    assert {f.name: n for f in files if (n := len(f.read_text().splitlines())) > 300} == {}


@pytest.mark.slow
def test_real_checks_hold_on_the_cpu(tmp_path):
    command = [sys.executable, str(JOBS / "check_gpu.py"), "--device", "cpu", "--quick"]
    some = ["--only", "quantisation", "--only", "merges", "--only", "out-of-memory"]
    environment = {**os.environ, "PYTHONPATH": str(JOBS.parent)}
    done = subprocess.run(
        [*command, *some],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    document = json.loads((tmp_path / "check_gpu.json").read_text())
    assert verdicts(document) == {
        "merges": "held", "quantisation": "held", "out-of-memory": "not possible here",
    }  # fmt: skip
    claims = {check["name"]: len(check["claims"]) for check in document["checks"]}
    assert claims == {"merges": 27, "quantisation": 9, "out-of-memory": 0}
