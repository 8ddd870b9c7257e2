"""The command line as a user meets it: exit statuses, one message, nothing half-written."""

from __future__ import annotations

import io
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import pytest
import torch

from raylab.store.columns import VOLATILE
from raylab.store.filesystem import Store
from raylab.store.tables import read_table
from tests.commands import exit_status
from tests.reduce.models import Q0, write_adapter

RAYLAB = str(Path(sys.executable).parent / "raylab")
QUICK = Path(__file__).parents[2] / "jobs" / "demo" / "study-quick.yaml"
RECIPES = """
recipes:
  sft: {method: sft, data: D0}
  dpo: {method: dpo, chosen: D1, rejected: D0, parent: sft}
comparisons:
  - pair: [sft, dpo]
"""


def raylab(*words):
    """The command in this process: its exit status and what it printed."""
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        status = exit_status(*words)
    return subprocess.CompletedProcess(words, status, out.getvalue(), err.getvalue())


def in_a_shell(*words):
    """The same as a process of its own, which starts a Ray of its own if it needs one."""
    command = [RAYLAB, *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300)


def stable(out):
    tables = {}
    for name in ("trials", "norms", "densities", "curve", "samples"):
        table = read_table(Store(str(out)), name)
        dropped = [column for column in VOLATILE if column in table.column_names]
        tables[name] = table.drop_columns(dropped).to_pylist()
    return tables


def edited(tmp_path, *changes, source=QUICK):
    text = source.read_text().replace("path: ", f"path: {source.parent}/")
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    file = tmp_path / "study.yaml"
    file.write_text(text)
    return file


def test_run_quick_study_prints_trials_what_was_found_and_last_the_report(quick):
    out, done = quick
    lines = done.stdout.splitlines()
    assert any("demo.sft-d1.s42" in line and "done" in line for line in lines)
    assert "relative_l2" not in done.stdout
    counted = lines.index(
        f"3 comparisons measured: --verbose or `raylab table norms {out}` lists their norms"
    )
    limited = next(at for at, line in enumerate(lines) if line.startswith("! There is one seed"))
    assert counted < limited
    assert lines[-1] == f"report: {out}/report/report.html"
    assert (out / "report" / "report.html").is_file()
    assert "Traceback" not in done.stderr
    assert "Warning" not in done.stderr


def test_run_verbose_lists_the_norms_of_every_comparison(quick):
    out, _ = quick
    done = raylab("run", QUICK, "--out", out, "--verbose")
    assert done.returncode == 0
    assert "relative_l2" in done.stdout
    assert "~ demo.dpo-d0-after-sft-d1.s42" in done.stdout
    assert done.stdout.splitlines()[-1] == f"report: {out}/report/report.html"


def test_run_in_a_log_has_a_line_for_start_quarters_and_end_of_each_trial(quick):
    _, done = quick
    said = [line.partition("] ")[2] for line in done.stderr.splitlines() if line.startswith("[")]
    for name in ("demo.sft-d1.s42", "demo.dpo-d0-after-sft-d1.s42"):
        own = [line.split("  ")[1] for line in said if line.startswith(f"{name}  ")]
        assert own[0] == "starts"
        assert own[-1].startswith("done in")
        assert len(own[1:-1]) <= 3
        assert all(line.startswith(("training", "held-out loss")) for line in own[1:-1])


@pytest.mark.parametrize("verb", ["plan", "run", "reduce"])
@pytest.mark.parametrize(
    "change", [("held_out: 0.15", "held_out: 0"), ("prompts: 8", "prompts: 0, likelihoods: false")]
)
def test_functions_asked_for_without_held_out_answers_are_refused(tmp_path, verb, change):
    wanted = ("evaluation: {", "evaluation: {functions: true, ")
    done = raylab(verb, edited(tmp_path, wanted, change), "--out", tmp_path / "out")
    assert done.returncode == 2
    assert "evaluation.functions" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "change",
    [
        ("held_out: 0.15", "held_out: 0"),
        ("prompts: 8", "functions: false, prompts: 8"),
    ],
)
def test_plan_counts_forward_passes(tmp_path, change):
    done = raylab("plan", QUICK, "--out", tmp_path)
    words = "3 models x (16 held-out + at most 16 own answers) = 96 forward passes"
    assert words in " ".join(done.stdout.split())
    document = json.loads(raylab("plan", QUICK, "--out", tmp_path, "--json").stdout)
    [cost] = document["functions"]
    assert (cost["base_model"], cost["models"], cost["passes"]) == ("demo", 3, 96)
    no_lines = (re.search(r"connectivity:\n(  - .*\n)+", QUICK.read_text()).group(), "")
    without = raylab("plan", edited(tmp_path, change, no_lines), "--out", tmp_path, "--json")
    assert json.loads(without.stdout)["functions"] == []


def test_plan_warns_of_a_finished_model_that_does_not_fit_its_base(tmp_path):
    for name, columns in (("sound", 192), ("odd", 191)):
        factors = {Q0: (torch.zeros(4, columns), torch.zeros(192, 4))}
        write_adapter(tmp_path / name, factors)
    models = "".join(
        f"  {name}: {{path: {tmp_path}/{name}, base_model: demo}}\n" for name in ("sound", "odd")
    )
    file = edited(tmp_path, ("recipes:", f"models:\n{models}recipes:"))
    done = raylab("plan", file, "--out", tmp_path / "out")
    assert done.returncode == 0
    warnings = [line for line in done.stderr.splitlines() if "cannot be reduced" in line]
    assert len(warnings) == 1
    assert "the model odd cannot be reduced" in warnings[0]
    assert "191" in warnings[0]
    assert not (tmp_path / "out").exists()
    script = (
        "import sys\nfrom raylab.cli import main\n"
        f"try:\n    main(['plan', {str(file)!r}, '--out', {str(tmp_path / 'out')!r}])\n"
        "finally:\n    assert not {'ray', 'transformers', 'pandas'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True, timeout=120)


def test_run_quick_study_shows_real_learning(quick):
    out, _ = quick
    rows = read_table(Store(str(out)), "trials").to_pylist()
    style = {row["recipe"]: row["style_rate"] for row in rows}
    assert style["sft-d1"] >= 0.8
    assert style["dpo-d0-after-sft-d1"] <= 0.05
    assert all(row["stopped_rate"] >= 0.9 and row["distinct_rate"] >= 0.9 for row in rows)


def test_run_with_failed_trial_exits_1_and_says_the_cause(local_ray, tmp_path):
    study = edited(tmp_path, ("learning_rate: 1e-3", "learning_rate: 1e30"))
    done = raylab("run", study, "--out", tmp_path / "out")
    assert done.returncode == 1
    assert "non_finite" in done.stdout
    assert "its parent demo.sft-d1.s42 is failed" in done.stdout
    assert "Traceback" not in done.stderr


def test_run_again_trains_nothing_and_says_so(quick):
    out, _ = quick
    before = {path: path.stat().st_mtime_ns for path in (out / "trials").rglob("*")}
    again = raylab("run", QUICK, "--out", out)
    assert again.returncode == 0
    assert "nothing to train: all 2 trials are in the store" in again.stderr
    assert {path: path.stat().st_mtime_ns for path in (out / "trials").rglob("*")} == before


def test_train_of_a_finished_study_starts_no_ray(quick, tmp_path, monkeypatch):
    copy = tmp_path / "copy"
    shutil.copytree(quick[0], copy)
    monkeypatch.setattr("ray.init", lambda *a, **options: pytest.fail("Ray was started"))
    monkeypatch.setattr("ray.is_initialized", lambda: False)
    done = raylab("train", QUICK, "--out", copy)
    assert done.returncode == 0, done.stderr
    assert "nothing to train: all 2 trials are in the store" in done.stderr


def test_stages_alone_over_finished_store_give_the_same_tables(quick, local_ray, tmp_path):
    out, _ = quick
    copy = tmp_path / "copy"
    shutil.copytree(out, copy)
    for verb in ("train", "reduce", "report"):
        done = raylab(verb, QUICK, "--out", copy)
        assert done.returncode == 0, done.stderr
    assert stable(copy) == stable(out)


def test_status_of_finished_store_shows_every_trial(quick, tmp_path):
    out, _ = quick
    shown = json.loads(raylab("status", QUICK, "--out", out, "--json").stdout)["trials"]
    assert [row["status"] for row in shown] == ["done", "done"]
    fresh = json.loads(raylab("status", QUICK, "--out", tmp_path / "no", "--json").stdout)["trials"]
    assert [row["status"] for row in fresh] == ["pending", "pending"]
    assert not (tmp_path / "no").exists()
    assert {"step", "loss", "seconds_left", "memory_bytes", "heard_seconds"} <= set(fresh[0])


def test_status_watch_of_finished_store_ends_with_the_table(quick):
    out, _ = quick
    done = raylab("status", QUICK, "--out", out, "--watch")
    assert done.returncode == 0
    assert done.stdout.startswith("2 trials: 2 done\n")
    assert "demo.sft-d1.s42" in done.stdout


def test_status_watch_as_json_exits_2(tmp_path):
    done = raylab("status", QUICK, "--out", tmp_path / "no", "--watch", "--json")
    assert done.returncode == 2
    assert "exclude each other" in done.stderr


def test_plan_names_the_field_that_made_a_trial_new(quick, tmp_path):
    out, _ = quick
    changed = edited(tmp_path, ("parent: sft-d1}", "parent: sft-d1, training: {beta: 0.1}}"))
    rows = json.loads(raylab("plan", changed, "--out", out, "--json").stdout)["trials"]
    assert [row["state"] for row in rows] == ["cached", "to run"]
    assert rows[1]["why"] == "new: training.beta: 0.3 -> 0.1"
    seeds = ("seed", "seed_init", "seed_order", "seed_dropout")
    assert [rows[0][key] for key in seeds] == [42] * 4


def test_plan_with_gpus_shows_the_schedule_of_what_is_not_cached(quick, tmp_path):
    out, _ = quick
    changed = edited(tmp_path, ("parent: sft-d1}", "parent: sft-d1, training: {beta: 0.1}}"))
    plan = json.loads(raylab("plan", changed, "--out", out, "--gpus", 2, "--json").stdout)
    (placed,) = plan["schedule"]["trials"]
    assert (placed["name"], placed["start"]) == ("demo.dpo-d0-after-sft-d1.s42", 0)
    assert plan["schedule"]["unit"] == "seconds"
    assert plan["schedule"]["measured"] == 1
    shown = raylab("plan", changed, "--out", out, "--gpus", 2).stdout
    assert "on 2 GPUs, 2 trials at once: 1 trial ends after" in shown
    assert "idle 50 % of that time" in shown
    assert "nothing to train" in raylab("plan", QUICK, "--out", out, "--gpus", 2).stdout


def test_plan_with_gpus_before_any_training_counts_in_steps():
    done = raylab("plan", QUICK.parent / "study.yaml", "--gpus", 8)
    assert "24 trials end after" in done.stdout
    assert "in units of one SFT step" in done.stdout


def test_light_verbs_load_no_heavy_library(tmp_path):
    script = (
        "import sys; from raylab.cli import main\n"
        "for words in ('schema', 'status STUDY --out OUT', 'plan STUDY --out OUT --gpus 2'):\n"
        "    places = {'STUDY': sys.argv[1], 'OUT': sys.argv[2]}\n"
        "    try: main([places.get(word, word) for word in words.split()])\n"
        "    except SystemExit as end: assert not end.code, end.code\n"
        "    heavy = {'torch', 'ray', 'transformers', 'datasets', 'pandas'} & set(sys.modules)\n"
        "    assert not heavy, (words, heavy)\n"
        "    measures = words.startswith('plan')\n"
        "    also = {'pyarrow', 'tenacity', 'numpy'} & set(sys.modules)\n"
        "    assert also <= ({'numpy'} if measures else set()), (words, also)"
    )
    words = [sys.executable, "-c", script, str(QUICK), str(tmp_path / "x")]
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_schema_is_json_schema_of_a_study():
    schema = json.loads(raylab("schema").stdout)
    assert {"name", "base_models", "data", "recipes", "comparisons", "tracking"} <= set(
        schema["properties"]
    )


BAD = {
    "unknown field": (("seeds: [42]", "seed: [42]"), "did you mean seeds?"),
    "cycle": (("data: D1}", "data: D1, parent: dpo-d0-after-sft-d1}"), "form a cycle"),
    "no such data": (("data: D1}", "data: D7}"), "did you mean"),
    "no column": (("d0.jsonl}", "d0.jsonl, completion: answer}"), "lacks the column 'answer'"),
    "no base": (("/base}", "/elsewhere}"), "is not there"),
}


@pytest.mark.parametrize("case", BAD)
def test_run_with_bad_study_exits_2_and_writes_nothing(case, tmp_path):
    change, message = BAD[case]
    done = raylab("run", edited(tmp_path, change), "--out", tmp_path / "out")
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [("", "is empty"), ('{"prompt": "a", "completion": ""}\n', "completion is empty in rows 1")],
)
def test_run_with_bad_data_exits_2_and_writes_nothing(content, message, tmp_path):
    data = tmp_path / "bad.jsonl"
    data.write_text(content)
    study = edited(tmp_path, (f"{QUICK.parent}/data/d1.jsonl", str(data)))
    done = raylab("run", study, "--out", tmp_path / "out")
    assert done.returncode == 2
    assert message in done.stderr
    assert not (tmp_path / "out").exists()


def test_run_with_unwritable_out_exits_2(tmp_path):
    (tmp_path / "file").write_text("")
    done = raylab("run", QUICK, "--out", tmp_path / "file" / "out")
    assert done.returncode == 2
    assert "OUT cannot be written" in done.stderr


def test_run_with_missing_study_exits_2(tmp_path):
    done = raylab("run", tmp_path / "no.yaml")
    assert done.returncode == 2
    assert "cannot be read" in done.stderr


def test_debug_shows_the_traceback(tmp_path):
    assert "Traceback" in in_a_shell("plan", tmp_path / "no.yaml", "--debug").stderr


@pytest.mark.slow
def test_run_killed_at_a_random_moment_then_rerun_gives_the_same_tables(
    local_ray, study_text, tmp_path
):
    study = tmp_path / "study.yaml"
    study.write_text(study_text + RECIPES)
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    moment = random.Random(os.getpid()).uniform(4, 22)
    driver = subprocess.Popen(
        [RAYLAB, "run", str(study), "--out", str(killed)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    time.sleep(moment)
    driver.send_signal(signal.SIGKILL)
    driver.wait()
    for out in (killed, whole):
        done = raylab("run", study, "--out", out)
        assert done.returncode == 0, (moment, done.stderr)
    assert stable(killed) == stable(whole), moment


@pytest.fixture
def bfloat16(study_text, tmp_path, monkeypatch):
    """A study that asks for bfloat16, on a machine whose GPUs are hidden, if it has any."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    file = tmp_path / "study.yaml"
    file.write_text(study_text.replace("float32", "bfloat16") + RECIPES)
    return file


def test_plan_without_a_gpu_warns_of_bfloat16_and_gives_the_time_here(bfloat16, tmp_path):
    done = raylab("plan", bfloat16, "--out", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    assert "quantization: {compute_dtype: float32}" in done.stderr
    assert "no GPU here; on its" in done.stdout and "for 2 trials" in done.stdout
    document = json.loads(raylab("plan", bfloat16, "--out", tmp_path / "out", "--json").stdout)
    assert document["here"]["by"] == "matmul" and document["here"]["seconds"] > 0

    float32 = tmp_path / "float32.yaml"
    float32.write_text(bfloat16.read_text().replace("bfloat16", "float32"))
    assert "warning" not in raylab("plan", float32, "--out", tmp_path / "out").stderr


def test_run_without_a_gpu_warns_of_bfloat16_before_ray_starts(bfloat16, tmp_path, monkeypatch):
    def stop(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("raylab.cluster.stages.driving", stop)
    done = raylab("run", bfloat16, "--out", tmp_path / "out")
    assert "quantization: {compute_dtype: float32}" in done.stderr
    elsewhere = raylab("run", bfloat16, "--out", tmp_path / "out", "--address", "ray.example:1")
    assert "compute_dtype" not in elsewhere.stderr


def test_run_with_nothing_to_do_loads_neither_torch_nor_ray(quick):
    out, _ = quick
    script = (
        "import sys; from raylab.cli import main\n"
        "try: main(['run', sys.argv[1], '--out', sys.argv[2]])\n"
        "except SystemExit as end: assert not end.code, end.code\n"
        "heavy = {'torch', 'ray', 'transformers', 'scipy'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    words = [sys.executable, "-c", script, str(QUICK), str(out)]
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "nothing to train" in done.stderr
