"""The studies and scripts that `bench_trials` runs, over the demo's base model and data.

Model: a study is the same text with other recipes, seeds and epochs; BARE is the training that
OURS asks of raylab, as one writes it with trl and no raylab.
Invariant: BARE and OURS do the same training: they leave the same bytes. FIRST trains until one
trial has ended, and then stops as Ctrl-C does.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

DEMO = Path(__file__).resolve().parent / "demo"
BATCH, RATE, LENGTH, SEED = 4, 3e-4, 128, 42

ONE = {"sft": {"method": "sft", "data": "D0"}}
_AFTER = {"method": "dpo", "chosen": "D0", "rejected": "D1"}
_OTHER = {"method": "dpo", "chosen": "D1", "rejected": "D0"}
EIGHT = {
    "sft-d0": {"method": "sft", "data": "D0"},
    "sft-d1": {"method": "sft", "data": "D1"},
    "sft-d2": {"method": "sft", "data": "D2"},
    "dpo-d0": _AFTER,
    "dpo-d1": _OTHER,
    "dpo-d0-after-sft-d2": {**_AFTER, "parent": "sft-d2"},
    "dpo-d1-after-sft-d2": {**_OTHER, "parent": "sft-d2"},
    "dpo-d0-after-sft-d1": {**_AFTER, "parent": "sft-d1"},
}
FOUR = {name: EIGHT[name] for name in ("sft-d0", "sft-d1", "dpo-d0", "dpo-d0-after-sft-d1")}


def write_study(
    file: Path,
    recipes: Mapping[str, Any],
    epochs: float,
    *,
    seeds: Sequence[int] = (SEED,),
    cpus: int = 1,
    base: Path,
) -> Path:
    """A study that asks nothing and holds nothing out; JSON is YAML."""
    study = {
        "name": file.stem,
        "base_models": {"demo": {"path": str(base)}},
        "data": {
            "D0": {"path": str(DEMO / "data" / "d0.jsonl")},
            "D1": {"path": str(DEMO / "data" / "d1.jsonl")},
            "D2": {"concat": ["D0", "D1"]},
        },
        "held_out": 0,
        "seeds": list(seeds),
        "quantization": {"compute_dtype": "float32"},
        "training": {
            "learning_rate": RATE,
            "batch_size": BATCH,
            "epochs": epochs,
            "max_length": LENGTH,
        },
        "evaluation": {"prompts": 0, "every_epochs": None},
        "resources": {"cpus": cpus},
        "recipes": dict(recipes),
    }
    file.write_text(json.dumps(study))
    return file


# Base model, data, where to write, epochs, threads.
BARE = f"""
import json, sys, time
import torch
from datasets import Dataset
from peft import LoraConfig
from transformers import AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig, set_seed
from trl import SFTConfig, SFTTrainer

base, data, out, epochs, threads = sys.argv[1:]
start = time.perf_counter()
torch.set_num_threads(int(threads))
rows = [json.loads(line) for line in open(data, encoding="utf-8")]
examples = [
    {{
        "prompt": [{{"role": "user", "content": row["prompt"]}}],
        "completion": [{{"role": "assistant", "content": row["completion"]}}],
    }}
    for row in rows
]
tokenizer = AutoTokenizer.from_pretrained(base)
set_seed({SEED})
model = AutoModelForCausalLM.from_pretrained(
    base,
    dtype=torch.float32,
    quantization_config=BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=torch.float32
    ),
    device_map={{"": "cpu"}},
)
trainer = SFTTrainer(
    model=model,
    args=SFTConfig(
        output_dir=out,
        seed={SEED},
        per_device_train_batch_size={BATCH},
        num_train_epochs=float(epochs),
        learning_rate={RATE},
        lr_scheduler_type="cosine",
        optim="adamw_torch",
        max_length={LENGTH},
        completion_only_loss=True,
        gradient_checkpointing=False,
        bf16=False,
        use_cpu=True,
        dataloader_pin_memory=False,
        save_strategy="no",
        report_to=[],
        disable_tqdm=True,
        logging_steps=1,
    ),
    train_dataset=Dataset.from_list(examples),
    processing_class=tokenizer,
    peft_config=LoraConfig(
        r=8, lora_alpha=128, lora_dropout=0.05, target_modules="all-linear", task_type="CAUSAL_LM"
    ),
)
for parameter in trainer.model.parameters():
    if parameter.requires_grad:
        parameter.data = parameter.data.float()
found = trainer.train()
trainer.model.save_pretrained(out)
inside = time.perf_counter() - start
print(json.dumps([inside, found.metrics["train_runtime"], found.global_step]))
"""

# A study of one trial, OUT. Libraries are loaded as a worker does it.
OURS = """
import sys, time
from raylab.imports import loading

with loading():
    from raylab.plan.trials import plan_trials, read_inputs
    from raylab.spec.study_file import load_study
    from raylab.reduce.passes import task_vector_norms
    from raylab.train.attempts import quiet_libraries
    from raylab.train.trial import TrialTask, run_trial

start = time.perf_counter()
study = load_study(sys.argv[1])
inputs = read_inputs(study)
trials = {trial.name: trial for trial in plan_trials(study, inputs)}
(trial,) = trials.values()
base = inputs.base_models[trial.base_model].directory
task = TrialTask(study, trial, trials, inputs.rows, base, sys.argv[2])
with quiet_libraries():
    run_trial(task, task_vector_norms, lambda progress: None)
print(time.perf_counter() - start)
"""

# A study, OUT, CPUs.
FIRST = """
import contextlib, os, signal, sys, threading, time
from pathlib import Path
from raylab.cluster import stages
from raylab.cluster.session import connected
from raylab.spec.study_file import load_study

def interrupt():
    while not any(Path(sys.argv[2]).glob("trials/*/record.json")):
        time.sleep(0.1)
    os.kill(os.getpid(), signal.SIGINT)

threading.Thread(target=interrupt, daemon=True).start()
prepared = stages.prepare(load_study(sys.argv[1]), sys.argv[2])
with connected(None, num_cpus=int(sys.argv[3])), contextlib.suppress(KeyboardInterrupt):
    stages.train(prepared, None, print)
"""
