"""The studies of jobs/studies: planned without a network and without their base models."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from raylab.cli import main
from raylab.plan.comparisons import plan_comparisons
from raylab.plan.resources import gpu_demands
from raylab.plan.trials import plan_trials, read_inputs
from raylab.spec.study_file import load_study

ROOT = Path(__file__).parents[1]
EXAMPLES = {"smollm2-135m"}
STUDIES = sorted(
    file for file in (ROOT / "jobs" / "studies").glob("*.yaml") if file.stem not in EXAMPLES
)
BASES = {"all": 6}


@pytest.fixture
def beside(tmp_path, monkeypatch):
    """Copies a study beside the demo's data, where nothing is downloaded."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "none"))

    def copy(file):
        for data in (ROOT / "jobs" / "demo" / "data").glob("*.jsonl"):
            shutil.copy(data, tmp_path)
        return Path(shutil.copy(file, tmp_path))

    return copy


def test_original_studies_are_seven():
    assert len(STUDIES) == 7


@pytest.mark.parametrize("file", STUDIES, ids=lambda file: file.stem)
def test_original_study_is_planned_without_its_base_model(file, beside):
    study = load_study(beside(file))
    inputs = read_inputs(study)
    trials = plan_trials(study, inputs)
    bases = BASES.get(file.stem, 1)
    assert study.name == file.stem
    assert len(trials) == bases * 12 * 2
    assert {t.variant.training.learning_rate for t in trials if t.variant.method == "sft"} == {
        1e-5,
        1e-4,
    }
    rows = gpu_demands(study, inputs, trials)
    assert len(rows) == 2 * bases
    assert all(row.memory and row.hours for row in rows)


def test_original_study_says_the_values_of_its_tables(beside):
    study = load_study(beside(ROOT / "jobs" / "studies" / "elyza-8b.yaml"))
    assert (study.lora.r, study.lora.alpha, study.lora.dropout) == (8, 128, 0.05)
    training = study.training
    assert (training.epochs, training.batch_size, training.beta) == (3, 2, 0.3)
    assert (study.quantization.bits, study.densities) == (4, (0.1, 0.2, 0.5, 1))
    assert len(study.reference) == 6


def test_plan_of_original_study_prints_tables_of_100_columns(beside, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    file = beside(ROOT / "jobs" / "studies" / "all.yaml")
    main_exits_0(["plan", str(file), "--out", str(file.parent / "out")])
    printed = capsys.readouterr().out
    table = printed[printed.index("base model ") : printed.index("elyza: base")]
    assert max(map(len, table.splitlines())) <= 100
    assert "gemma-9b" in table


def test_plan_of_original_study_as_json_has_gpu_rows(beside, capsys):
    file = beside(ROOT / "jobs" / "studies" / "gemma-2-9b.yaml")
    main_exits_0(["plan", str(file), "--out", str(file.parent / "out"), "--json"])
    document = json.loads(capsys.readouterr().out)
    assert [row["method"] for row in document["gpu"]] == ["sft", "dpo"]
    assert document["gpu"][0]["fits"]["checkpointing"]["24"] >= 1024


def test_plan_without_data_names_every_file_and_exits_2(tmp_path, capsys):
    file = shutil.copy(ROOT / "jobs" / "studies" / "elyza-8b.yaml", tmp_path)
    with pytest.raises(SystemExit) as end:
        main(["plan", str(file)])
    assert end.value.code == 2
    said = capsys.readouterr().err
    assert "d0.jsonl" in said
    assert "d1.jsonl" in said
    assert "raylab data convert" in said


def test_original_study_comparisons_are_planned(beside):
    from raylab.plan.comparisons import Model

    study = load_study(beside(ROOT / "jobs" / "studies" / "qwen2.5-7b.yaml"))
    trials = plan_trials(study, read_inputs(study))
    models = {
        t.name: Model(
            t.name, t.base_model, t.variant.name, t.variant.label, t.variant.method,
            t.variant.data, t.seed,
        )
        for t in trials
    }  # fmt: skip
    names = [comparison.name for comparison in plan_comparisons(study, models)]
    assert "qwen.sft-d0.s42~qwen.sft-d1.s42" in names
    assert len(names) == 5 * 2 + 24 + 12


def main_exits_0(words):
    with pytest.raises(SystemExit) as end:
        main(words)
    assert end.value.code in (None, 0)
