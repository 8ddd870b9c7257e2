"""The life of a study as a user leads it, command by command: planned, run, stopped, resumed,
extended, renamed, made smaller, changed, merged, published, compared, and beside another study.

One test, because each step goes on with what the last one left.
"""

from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from raylab.store.filesystem import Store
from raylab.store.tables import read_table
from tests.cluster.killing import RAYLAB
from tests.conftest import QUICK_STUDY

pytestmark = [pytest.mark.cluster, pytest.mark.long]

DEMO = QUICK_STUDY.parent
STUDY = {
    "name": "life",
    "base_models": {"tiny": {"path": str(DEMO / "base")}},
    "data": {"D0": {"path": "d0.jsonl"}, "D1": {"path": "d1.jsonl"}},
    "held_out": 0.15,
    "seeds": [42],
    "quantization": {"compute_dtype": "float32"},
    "training": {"learning_rate": 1e-3, "batch_size": 8, "epochs": 3, "max_length": 128},
    "evaluation": {"functions": False, "style": "ojousama", "prompts": 4, "max_new_tokens": 8},
    "recipes": {
        "sft": {"method": "sft", "data": "D1"},
        "both": {"method": "dpo", "chosen": "D0", "rejected": "D1", "parent": "sft"},
    },
    "comparisons": [{"pair": ["sft", "both"]}, {"base": "all"}],
    "resources": {"checkpoint_seconds": 0},
}
STEPS = 21


class Life:
    """A folder with a study and its results, and the commands of its user."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.study = folder, json.loads(json.dumps(STUDY))
        for name in ("d0.jsonl", "d1.jsonl"):
            lines = (DEMO / "data" / name).read_text(encoding="utf-8").splitlines(keepends=True)
            (folder / name).write_text("".join(lines[:56]), encoding="utf-8")
        self.write()

    def write(self, name="study.yaml"):
        with (self.folder / name).open("w", encoding="utf-8") as file:
            YAML(typ="safe", pure=True).dump(self.study, file)

    def raylab(self, *words, status=0):
        """What a command prints, spaces and line ends as one space."""
        done = subprocess.run(
            [RAYLAB, *words], cwd=self.folder, capture_output=True, text=True, timeout=400
        )
        assert done.returncode == status, done.stdout + done.stderr
        return " ".join((done.stdout + done.stderr).split())

    def run(self, name="study.yaml", status=0):
        return self.raylab("run", name, "--out", "out", status=status)

    def rows(self, table):
        return read_table(Store(str(self.folder / "out")), table).to_pylist()

    def names(self, table="trials", column="name"):
        return [row[column] for row in self.rows(table)]

    def trained(self):
        """When each adapter was written."""
        found = self.folder.glob("out/trials/*/adapter/adapter_model.safetensors")
        return {path: path.stat().st_mtime_ns for path in found}


def stop_in_mid_training(life, recipe):
    """Interrupt a run when the trial of `recipe` has made some steps; what it printed."""
    with (life.folder / "stopped.log").open("w") as log:
        driver = subprocess.Popen(
            [RAYLAB, "run", "study.yaml", "--out", "out"],
            cwd=life.folder, stdout=log, stderr=log, start_new_session=True,
        )  # fmt: skip
        deadline = time.monotonic() + 300
        while step_of(life, recipe) < 2:
            assert driver.poll() is None, (life.folder / "stopped.log").read_text()
            assert time.monotonic() < deadline
            time.sleep(0.05)
        driver.send_signal(signal.SIGINT)
        assert driver.wait(timeout=120) == 1
    return " ".join((life.folder / "stopped.log").read_text().split())


def step_of(life, recipe):
    for file in life.folder.glob(f"out/trials/tiny.{recipe}.*/progress.json"):
        return json.loads(file.read_text() or "{}").get("step") or 0
    return 0


def test_life_of_a_study_from_its_plan_to_two_studies_in_one_out(tmp_path):
    life = Life(tmp_path)
    planned(life)
    stopped(life)
    resumed(life)
    run_again(life)
    extended_by_a_seed(life)
    renamed(life)
    made_smaller(life)
    changed(life)
    merged(life)
    published(life)
    compared(life)
    beside_another(life)


def planned(life):
    said = life.raylab("plan", "study.yaml", "--out", "out")
    assert "tiny.sft.s42" in said
    assert "to run new: no trial of this name in the store" in said
    assert not list(life.folder.glob("out/*"))


def stopped(life):
    said = stop_in_mid_training(life, "sft")
    assert "stopping: trials save" in said
    assert "tiny.both.s42 starts" not in said
    assert not life.trained()
    for command in ("plan", "status"):
        words = (command, "study.yaml", "--out", "out")
        said = life.raylab(*words)
        assert re.search(rf"goes on from step \d+ of {STEPS}", said), said


def resumed(life):
    said = life.run()
    assert "reducing 3 of 3 comparisons" in said
    assert len(life.trained()) == 2
    assert [row["status"] for row in life.rows("trials")] == ["done", "done"]
    first = re.search(rf"tiny.sft.s42 training (\d+)/{STEPS}", said)
    assert int(first[1]) >= 2, "it began anew"


def run_again(life):
    before = life.trained()
    assert "nothing to train: all 2 trials are in the store" in life.run()
    assert life.trained() == before


def extended_by_a_seed(life):
    before = life.trained()
    life.study["seeds"] = [42, 7]
    life.write()
    assert "reducing 3 of 6 comparisons; 3 were there already" in life.run()
    after = life.trained()
    assert len(after) == 4
    assert before.items() <= after.items()


def renamed(life):
    before = life.trained()
    recipes = life.study["recipes"]
    recipes["chained"] = recipes.pop("both")
    life.study["comparisons"][0] = {"pair": ["sft", "chained"]}
    life.write()
    said = life.raylab("plan", "study.yaml", "--out", "out")
    assert said.count("cached") >= 4
    said = life.run()
    assert "nothing to train" in said
    assert "damaged" not in said
    assert life.trained() == before
    assert "tiny.chained.s7" in life.names()
    assert "tiny.chained.s42~tiny" in life.names("comparisons", "comparison")
    assert "reducing 0 of 6 comparisons; 6 were there already" in said
    diffed = life.raylab("diff", "out#tiny.chained.s42", "out#tiny.sft.s42", "--json")
    assert '"relative_l2"' in diffed


def made_smaller(life):
    life.study["seeds"] = [42]
    life.write()
    before = life.trained()
    said = life.run()
    assert life.trained() == before
    assert life.names() == ["tiny.sft.s42", "tiny.chained.s42"]
    left_out = "OUT holds 2 finished results that the study life does not have"
    assert left_out in said


def changed(life):
    before = life.trained()
    life.study["recipes"]["sft"]["training"] = {"learning_rate": 2e-3}
    life.write()
    said = life.raylab("plan", "study.yaml", "--out", "out")
    assert "0.001 -> 0.002" in said, said
    life.run()
    after = life.trained()
    assert before.items() <= after.items()
    # The child's parent is another model now.
    assert len(after) == len(before) + 2


def merged(life):
    life.study["merges"] = {"mixed": {"method": "ties", "models": ["sft", "chained"]}}
    life.write()
    before = life.trained()
    said = life.run()
    assert life.trained() == before
    assert "1 of 1 merge to make" in said
    assert "tiny.mixed.s42" in life.names()
    assert "reducing 1 of 4 comparisons; 3 were there already" in said


def published(life):
    for name in ("sft", "chained"):
        model = f"out#tiny.{name}.s42"
        life.raylab("publish", model, "me/tiny", "--dry-run", "--out", name)
        card = (life.folder / name / "README.md").read_text(encoding="utf-8")
        assert "4 of 4" in card, card


def compared(life):
    shutil.copytree(life.folder / "out", life.folder / "before")
    life.study["training"]["learning_rate"] = 3e-3
    life.write()
    life.run()
    said = life.raylab("compare", "before", "out")
    assert "0.001" in said and "0.003" in said, said


def beside_another(life):
    """A second study in the same OUT trains nothing that is there, and takes nothing away."""
    before, report = life.trained(), life.folder / "out" / "report"
    files = files_of(report)
    other = dict(life.study, name="other", comparisons=[{"base": ["sft"]}])
    other["recipes"] = {"sft": life.study["recipes"]["sft"]}
    other.pop("merges")
    life.study = other
    life.write("other.yaml")
    said = life.run("other.yaml")
    assert life.trained() == before
    assert "nothing to train" in said
    assert life.names() == ["tiny.sft.s42"]
    kept = files_of(life.folder / "out" / "studies" / "life" / "report")
    # A page names the new place of what lies beside it.
    for page in (Path("report.html"), Path("report.md")):
        assert len(kept.pop(page)) >= len(files.pop(page)) > 0
    assert kept == files


def files_of(folder):
    return {p.relative_to(folder): p.read_bytes() for p in folder.rglob("*") if p.is_file()}
