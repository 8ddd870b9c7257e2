"""Studies that checks train: written, planned, and trained in this process or by the command.

Model: `write_study` writes a study over a base model of `gpu_checks.bases`. `Trials` plans it and
trains single trials in this process, as a worker of Ray does. `Command` is a `raylab` command.
Invariant: a command is ended before the check's time is up.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from gpu_checks.bases import compute_dtype
from gpu_checks.report import Setting
from raylab.imports import loading

with loading():
    from raylab.parquet import read_parquet
    from raylab.plan.trials import plan_trials, read_inputs
    from raylab.reduce.passes import task_vector_norms
    from raylab.spec.study_file import load_study
    from raylab.store.filesystem import Store
    from raylab.store.records import HISTORY, Record, trial_key
    from raylab.store.tables import rows_of
    from raylab.train.attempts import quiet_libraries
    from raylab.train.base_checkpoint import start_of
    from raylab.train.examples import examples_of
    from raylab.train.methods import TrainerSettings, build_trainer
    from raylab.train.model import load_base, load_tokenizer
    from raylab.train.progress import Listener
    from raylab.train.trial import TrialTask, run_trial

SEED = 42
SFT = {"method": "sft", "data": "D1"}
DPO = {"method": "dpo", "chosen": "D0", "rejected": "D1"}
SILENT = {"prompts": 0, "likelihoods": False, "every_epochs": None}
"""An evaluation that asks nothing."""


def write_study(
    file: Path,
    setting: Setting,
    base: Path,
    data: Mapping[str, Path],
    recipes: Mapping[str, Any],
    **parts: Any,
) -> Path:
    """A study of `recipes`; `parts` replace its other parts, or fields of those with fields."""
    study: dict[str, Any] = {
        "name": file.stem,
        "base_models": {"base": {"path": str(base)}},
        "data": {name: {"path": str(path)} for name, path in data.items()},
        "held_out": 0,
        "seeds": [SEED],
        "quantization": {"compute_dtype": compute_dtype(setting)},
        "training": {"epochs": 1, "batch_size": 4, "max_length": 256},
        "evaluation": SILENT,
        "resources": {},
        "recipes": dict(recipes),
    }
    for name, part in parts.items():
        study[name] = {**study[name], **part} if isinstance(part, dict) else part
    file.write_text(json.dumps(study))
    return file


class Trials:
    """The trials of the study in `file`, whose store is `out`."""

    def __init__(self, file: Path, out: Path) -> None:
        """Plans them; nothing is trained."""
        self.study, self.out = load_study(file), out
        self.inputs = read_inputs(self.study)
        self.trials = {trial.name: trial for trial in plan_trials(self.study, self.inputs)}

    def task(self, recipe: str) -> TrialTask:
        """The task of the trial of `recipe`."""
        trial = self.trials[f"base.{recipe}.s{SEED}"]
        base = self.inputs.base_models["base"].directory
        assert base is not None
        return TrialTask(self.study, trial, self.trials, self.inputs.rows, base, str(self.out))

    @property
    def store(self) -> Store:
        """The store of the study."""
        return Store(str(self.out))

    def run(self, recipe: str, listener: Listener = lambda progress: None) -> Record:
        """Train a trial to its record."""
        with quiet_libraries():
            return run_trial(self.task(recipe), task_vector_norms, listener)

    def trainer(self, recipe: str, directory: Path) -> Any:
        """The trainer of a trial, not yet trained."""
        task, study = self.task(recipe), self.study
        start, variant = start_of(task.trial, task.adapters), task.trial.variant
        with quiet_libraries():
            torch.manual_seed(SEED)
            return build_trainer(
                load_base(start.checkpoint, study.quantization, start.frozen),
                load_tokenizer(task.base),
                examples_of(variant, task.rows, study.held_out),
                TrainerSettings(
                    variant, task.trial.seed, study.quantization, study.evaluation, directory
                ),
                [],
            )

    def folder(self, recipe: str) -> Path:
        """The folder of a trial."""
        return self.out / "trials" / self.task(recipe).trial.folder

    def adapter(self, recipe: str) -> Path:
        """The weights of a trained adapter."""
        return self.folder(recipe) / "adapter" / "adapter_model.safetensors"

    def history(self, recipe: str) -> list[dict[str, Any]]:
        """The rows of history.parquet that have a loss of training."""
        key = trial_key(self.task(recipe).trial.folder, HISTORY)
        table = read_parquet(Path(self.store.path(key)))
        return [row for row in rows_of(table) if row.get("loss") is not None]


class Command:
    """A `raylab` command in a process of its own, whose words go to a log."""

    def __init__(self, words: Sequence[str], log: Path) -> None:
        """Starts it."""
        script = "from raylab.cli import main; main()"
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        self._log = log
        with log.open("w") as file:
            self._process = subprocess.Popen(
                [sys.executable, "-c", script, *words],
                stdout=file,
                stderr=subprocess.STDOUT,
                env=environment,
            )

    def wait(self, setting: Setting, look: Callable[[], None] = lambda: None) -> int | None:
        """The exit status; None where the check's time was up first, and it was ended.

        look: called about twenty times a second meanwhile.
        """
        while self._process.poll() is None:
            if setting.seconds_left <= 0:
                self._process.send_signal(signal.SIGKILL)
                self._process.wait()
                return None
            look()
            try:
                self._process.wait(0.05)
            except subprocess.TimeoutExpired:
                continue
        return self._process.returncode

    @property
    def said(self) -> str:
        """The end of what it printed."""
        return self._log.read_text(errors="replace")[-1500:]
