"""Studies whose trials are trained in this process, and trials that tests share.

`bench` makes a study of the demo's base model over 40 training rows: ten steps, no evaluation.
`trained` is one such study, with every evaluation on, whose trials train once for all tests of
this package. Its adapters have the bytes of `bench`, so that they are the reference of tests that
train otherwise, and the parents that `bench` starts from. Tests only read it.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from pyarrow import parquet

from raylab.plan.trials import plan_trials, read_inputs
from raylab.reduce.passes import task_vector_norms
from raylab.spec.seeds import Seeds, parse_seed
from raylab.spec.study_file import parse_study
from raylab.store.filesystem import Store
from raylab.train.attempts import quiet_libraries
from raylab.train.base_checkpoint import start_of
from raylab.train.dataset_cache import cache_of
from raylab.train.examples import examples_of
from raylab.train.methods import TrainerSettings, build_trainer
from raylab.train.model import load_base, load_tokenizer
from raylab.train.trial import TrialTask, run_trial
from tests.conftest import DEMO, STUDY

RECIPES = """
recipes:
  sft-d1: {method: sft, data: D1}
  dpo-d0: {method: dpo, chosen: D0, rejected: D1}
  merged: {method: dpo, chosen: D0, rejected: D1, parent: sft-d1}
  stacked: {method: dpo, chosen: D0, rejected: D1, parent: sft-d1, chain: stack}
"""
EVALUATED = "prompts: 4, sampled: 2, every_epochs: 0.2"
NOT_EVALUATED = "prompts: 0, likelihoods: false, every_epochs: null"
STUDY_TEXT = STUDY.format(base=DEMO / "base", demo=DEMO)


def study_of(text: str, recipes: str = RECIPES, evaluation: str = NOT_EVALUATED) -> str:
    """The text of a study with `recipes`; `evaluation` replaces the number of prompts."""
    assert "prompts: 4" in text
    return text.replace("prompts: 4", evaluation) + recipes


class Bench:
    """Plans the text of a study, and trains its trials by recipe."""

    def __init__(self, text: str, out: Path | str) -> None:
        self.study = parse_study(text, Path("study.yaml"))
        self.inputs = read_inputs(self.study)
        self.trials = {trial.name: trial for trial in plan_trials(self.study, self.inputs)}
        self.out = out

    @property
    def store(self) -> Store:
        return Store(str(self.out))

    def task(self, recipe: str, seed: int | str = 42) -> TrialTask:
        trial = self.trials[f"demo.{recipe}.s{seed}"]
        base = self.inputs.base_models["demo"].directory
        return TrialTask(self.study, trial, self.trials, self.inputs.rows, base, str(self.out))

    def run(self, recipe: str, listener=lambda progress: None, seed: int | str = 42):
        with quiet_libraries():
            return run_trial(self.task(recipe, seed), task_vector_norms, listener)

    def trainer(self, recipe: str, directory: Path, cached: bool = False, seed: Seeds | int = 42):
        """The trainer of a trial, not yet trained; `cached`: with the study's cache."""
        task, study, seed = self.task(recipe), self.study, parse_seed(seed)
        start = start_of(task.trial, task.adapters)
        cache = cache_of(task.trial, task.adapters) if cached else None
        with quiet_libraries():
            torch.manual_seed(seed.init)
            variant = task.trial.variant
            return build_trainer(
                load_base(start.checkpoint, study.quantization, start.frozen),
                load_tokenizer(task.base),
                examples_of(variant, task.rows, study.held_out),
                TrainerSettings(
                    variant, seed, study.quantization, study.evaluation, directory, cache
                ),
                [],
            )

    def folder(self, recipe: str, seed: int | str = 42) -> Path:
        return Path(self.out) / "trials" / self.task(recipe, seed).trial.folder

    def adapter(self, recipe: str) -> Path:
        return self.folder(recipe) / "adapter"

    def adapter_bytes(self, recipe: str, seed: int | str = 42) -> bytes:
        return (self.folder(recipe, seed) / "adapter/adapter_model.safetensors").read_bytes()

    def history(self, recipe: str) -> list[dict]:
        """Step, loss and gradient norm of every step."""
        table = parquet.read_table(self.folder(recipe) / "history.parquet")
        rows = table.select(["step", "loss", "grad_norm"]).to_pylist()
        return [row for row in rows if row["loss"] is not None]

    def trajectory(self, recipe: str) -> Path:
        return self.folder(recipe) / "paths.parquet"


class Trained(Bench):
    """A study whose trials are trained when a test first asks for them; to be read only."""

    def __init__(self, folder: Path) -> None:
        super().__init__(study_of(STUDY_TEXT, evaluation=EVALUATED), folder / "out")
        self._scratch, self._records = folder / "scratch", {}

    def record(self, recipe: str):
        if recipe not in self._records:
            parent = self.task(recipe).trial.parent
            if parent:
                self.record(self.trials[parent].variant.name)
            with pytest.MonkeyPatch.context() as patch:
                patch.setenv("RAYLAB_SCRATCH", str(self._scratch))
                self._records[recipe] = self.run(recipe)
        return self._records[recipe]

    def folder(self, recipe: str, seed: int | str = 42) -> Path:
        """The folder of a trial, which is trained if it is not yet."""
        self.record(recipe)
        return super().folder(recipe, seed)


@pytest.fixture(scope="package", autouse=True)
def _one_thread():
    """As in the trials of these studies: the products of two threads have other bits."""
    torch.set_num_threads(1)
    with quiet_libraries():
        yield


@pytest.fixture(scope="package")
def trained(tmp_path_factory) -> Trained:
    """The trials that tests share."""
    return Trained(tmp_path_factory.mktemp("trained"))


@pytest.fixture
def bench(trained, tmp_path, scratch):
    """Makes a Bench; keyword arguments replace parts of the study's text.

    after: recipes whose trials are copied from `trained`, as if they had been trained here.
    """

    def make(
        out: str = "out",
        recipes: str = RECIPES,
        evaluation: str = NOT_EVALUATED,
        after: tuple[str, ...] = (),
        **replaced: str,
    ) -> Bench:
        text = study_of(STUDY_TEXT, recipes, evaluation)
        for old, new in replaced.items():
            field, _, value = new.partition("->")
            assert field in text, f"{old}: {field} is not in the study"
            text = text.replace(field, value)
        made = Bench(text, tmp_path / out)
        for recipe in after:
            shutil.copytree(trained.folder(recipe), made.folder(recipe))
        return made

    return make
