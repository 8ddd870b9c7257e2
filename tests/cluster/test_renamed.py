"""A study under other names, and two recipes of one id, as a user runs them: trained once."""

from __future__ import annotations

import io
import json
import shutil
import subprocess
from contextlib import redirect_stderr, redirect_stdout

import pytest

import raylab as product
from raylab.store.filesystem import Store
from raylab.store.tables import read_table
from tests.commands import exit_status
from tests.conftest import DEMO, QUICK_STUDY, STUDY

pytestmark = pytest.mark.cluster

OLD, NEW = "demo.dpo-d0-after-sft-d1.s42", "small.chained.s42"
RENAMES = (
    ("dpo-d0-after-sft-d1", "chained"),
    ("  demo: {", "  small: {"),
    ("D0", "plain"),
    ("path: ", f"path: {DEMO}/"),
)


def raylab(*words):
    """The command in this process: its exit status and what it printed."""
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        status = exit_status(*words)
    return subprocess.CompletedProcess(words, status, out.getvalue(), err.getvalue())


def rows_of(out, table):
    return read_table(Store(str(out)), table).to_pylist()


def contents(out):
    """The bytes of every file of a result, and when they were written."""
    files = [path for path in (out / "trials").rglob("*") if path.is_file()]
    return {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in files}


@pytest.fixture(scope="module")
def renamed(quick, local_ray, tmp_path_factory):
    """(study, OUT, the finished process, results before): the quick study under other names."""
    folder = tmp_path_factory.mktemp("renamed")
    text = QUICK_STUDY.read_text()
    for old, new in RENAMES:
        assert old in text
        text = text.replace(old, new)
    (folder / "study.yaml").write_text(text)
    shutil.copytree(quick[0], folder / "out")
    before = contents(folder / "out")
    planned = raylab("plan", folder / "study.yaml", "--out", folder / "out", "--json")
    states = [row["state"] for row in json.loads(planned.stdout)["trials"]]
    assert states == ["cached", "cached"]
    done = raylab("run", folder / "study.yaml", "--out", folder / "out")
    assert done.returncode == 0, done.stderr
    return folder / "study.yaml", folder / "out", done, before


def test_run_under_other_names_trains_nothing_and_speaks_of_no_damage(renamed):
    _, out, done, before = renamed
    assert "nothing to train: all 2 trials are in the store" in done.stderr
    assert "damaged" not in done.stderr
    assert before and contents(out) == before


def test_tables_and_report_have_the_new_names_alone(renamed, quick):
    _, out, done, _ = renamed
    assert NEW in done.stdout and OLD not in done.stdout
    former = {row["trial_id"]: row for row in rows_of(quick[0], "trials")}
    rows = rows_of(out, "trials")
    assert [row["name"] for row in rows] == ["small.sft-d1.s42", NEW]
    assert {row["trial_id"] for row in rows} == set(former)
    for row in rows:
        old = former[row["trial_id"]]
        assert (row["status"], row["l2"], row["log"]) == ("done", old["l2"], old["log"])
    assert {row["data"] for row in rows_of(out, "likelihoods")} == {"plain", "D1"}
    norms = {row["comparison"]: row["l2"] for row in rows_of(out, "norms") if row["level"] == "all"}
    same = {row["comparison"]: row["l2"] for row in rows_of(quick[0], "norms")
            if row["level"] == "all"}  # fmt: skip
    assert norms[f"{NEW}~small"] == same[f"{OLD}~demo"]
    page = (out / "report" / "report.md").read_text()
    assert "chained" in page and "dpo-d0-after-sft-d1" not in page


def test_every_verb_agrees_on_what_is_there(renamed, tmp_path):
    study, out, _, before = renamed
    status = raylab("status", study, "--out", out, "--json")
    rows = json.loads(status.stdout)["trials"]
    assert [(row["name"], row["status"]) for row in rows] == [
        ("small.sft-d1.s42", "done"),
        (NEW, "done"),
    ]
    for verb in ("train", "run"):
        done = raylab(verb, study, "--out", out)
        assert (done.returncode, "nothing to train" in done.stderr) == (0, True), done.stderr
    found = raylab("diff", f"{out}#{NEW}", f"{out}#small.sft-d1.s42", "--json")
    wholes = [row for row in rows_of(out, "norms") if row["level"] == "all"]
    (norm,) = (row for row in wholes if row["b"] != "small")
    assert json.loads(found.stdout)["norms"]["l2"] == norm["l2"]
    published = tmp_path / "published"
    done = raylab("publish", f"{out}#{NEW}", "me/it", "--dry-run", "--out", published)
    assert done.returncode == 0, done.stderr
    facts = json.loads((published / "raylab.json").read_text())
    assert [made["name"] for made in facts["trainings"]] == ["small.sft-d1.s42", NEW]
    assert list(product.open(str(out)).trials["name"]) == ["small.sft-d1.s42", NEW]
    assert contents(out) == before


def test_former_name_is_one_message_with_the_new_one(renamed):
    _, out, _, _ = renamed
    done = raylab("diff", f"{out}#{OLD}", f"{out}#{NEW}")
    assert done.returncode == 2
    assert "former name" in done.stderr and f"{out}#{NEW}" in done.stderr


TWINS = """
recipes:
  one: {method: sft, data: D0}
  same: {method: sft, data: D0, training: {epochs: 1}}
  child: {method: sft, data: D1, parent: same}
comparisons:
  - pair: [one, same]
"""


def test_two_recipes_of_one_id_train_once_and_both_have_rows(local_ray, tmp_path):
    study, out = tmp_path / "study.yaml", tmp_path / "out"
    study.write_text(STUDY.format(base=DEMO / "base", demo=DEMO) + TWINS)
    done = raylab("run", study, "--out", out)
    assert done.returncode == 0, done.stderr
    assert "2 of 2 trials to train" in done.stderr
    rows = {row["recipe"]: row for row in rows_of(out, "trials")}
    assert list(rows) == ["one", "same", "child"]
    assert {row["status"] for row in rows.values()} == {"done"}
    assert rows["one"]["trial_id"] == rows["same"]["trial_id"]
    assert rows["child"]["parent"] == "demo.same.s42"
    assert len(list((out / "trials").iterdir())) == 2
    (pair,) = (row for row in rows_of(out, "norms") if row["level"] == "all")
    assert (pair["l2"], pair["note"]) == (0.0, "demo.same.s42 is the same as demo.one.s42")
    again = raylab("run", study, "--out", out)
    assert (again.returncode, "nothing to train" in again.stderr) == (0, True)
