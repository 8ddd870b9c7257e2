"""The check `training`: what the libraries break silently, looked at where it would show.

Model: one `raylab run` trains SFT, DPO, and DPO after SFT with a merged and with a stacked parent,
as a user does. While it runs, the checkpoints of its trials are read: dtypes of the adapter and of
Adam's moments, and the weights of the first that was seen, from which entries are to move. Then
trainers are built in this process, to look at the reference and at a gradient.
"""

from __future__ import annotations

import io
import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load, load_file

from gpu_checks.bases import base_model, demo_rows
from gpu_checks.report import Report, Setting
from gpu_checks.trainings import DPO, SFT, Command, Trials, write_study
from raylab.train.model import load_base

RATE = 1e-5
RECIPES = {
    "sft": SFT,
    "dpo": DPO,
    "merged": {**DPO, "parent": "sft"},
    "stacked": {**DPO, "parent": "sft", "chain": "stack"},
}
_LOG_2_WITHIN = {"float32": 1e-4, "bfloat16": 0.05, "float16": 0.02}
"""The reference scores other batches than the training, whose rounding differs."""


def check(setting: Setting, report: Report) -> None:
    """The study by the command, then trainers in this process."""
    folder = setting.work / "training"
    folder.mkdir()
    data = demo_rows(folder, setting.sized(48, 32, 12))
    study = write_study(
        folder / "study.yaml",
        setting,
        base_model(setting),
        data,
        RECIPES,
        held_out=0.1,
        training={"learning_rate": RATE},
        evaluation={"prompts": 2, "max_new_tokens": 8, "every_epochs": 0.5},
        # Few, since a checkpoint takes longer than a step, but one at least.
        resources={"checkpoint_seconds": setting.sized(0.5, 0.5, 0)},
        comparisons=setting.sized([{"base": "all"}], [{"base": "all"}], []),
    )
    trials = Trials(study, folder / "out")
    if _run(setting, report, trials, study):
        for recipe in setting.sized(("dpo", "stacked", "merged"), ("stacked",), ("stacked",)):
            if report.has_time(setting.sized(12, 8, 4), f"the reference of {recipe}"):
                _check_reference(report, trials, recipe, folder)
    _check_gradient(report, trials)


@dataclass
class Seen:
    """The first checkpoint of each trial that was read while the study ran, by folder."""

    out: Path
    steps: dict[str, int] = field(default_factory=dict)
    adapters: dict[str, dict[str, torch.Tensor]] = field(default_factory=dict)
    moments: dict[str, set[torch.dtype]] = field(default_factory=dict)
    shares: list[float] = field(default_factory=list)
    """The shares of the entries of A and B that moved since."""

    def look(self) -> None:
        """Read the checkpoints of trials that have none yet; one may vanish meanwhile."""
        for latest in (self.out / "checkpoints").glob("*/latest.json"):
            name = latest.parent.name
            if name not in self.adapters:
                try:
                    self._read(name, latest)
                except (OSError, ValueError):
                    continue

    def _read(self, name: str, latest: Path) -> None:
        step = json.loads(latest.read_text())["step"]
        files = latest.parent / str(step)
        adapter = (files / "adapter_model.safetensors").read_bytes()
        optimizer = torch.load(
            io.BytesIO((files / "optimizer.pt").read_bytes()), "cpu", weights_only=True
        )
        states = optimizer["state"].values()
        self.steps[name], self.adapters[name] = step, load(adapter)
        self.moments[name] = {s[key].dtype for s in states for key in ("exp_avg", "exp_avg_sq")}


def _run(setting: Setting, report: Report, trials: Trials, study: Path) -> bool:
    """Train by `raylab run`; whether its results are there."""
    seen = Seen(trials.out)
    words = ["run", str(study), "--out", str(trials.out)]
    command = Command(words, study.with_suffix(".log"))
    status = command.wait(setting, seen.look)
    if status is None:
        report.left_out("`raylab run` of four trainings")
        return False
    if not report.claim(
        "`raylab run` exits with 0", status == 0, "" if not status else command.said
    ):
        return False
    folders = {recipe: trials.folder(recipe) for recipe in RECIPES}
    missing = [r for r, folder in folders.items() if not (folder / "record.json").is_file()]
    report.claim("all four trials are done", not missing, ", ".join(missing))
    if missing:
        return False
    for recipe, folder in folders.items():
        _check_trial(report, trials, recipe, seen, folder.name)
    if seen.shares:
        report.headline(f"at least {min(seen.shares):.3%} of the entries move")
    return True


def _check_trial(report: Report, trials: Trials, recipe: str, seen: Seen, name: str) -> None:
    final = load_file(trials.adapter(recipe))
    dtypes = {tensor.dtype for tensor in final.values()}
    report.claim(f"{recipe}: the adapter is float32", dtypes == {torch.float32}, str(dtypes))
    if name in seen.adapters:
        _check_checkpoint(report, recipe, seen, name, final)
    else:
        report.left_out(f"{recipe}: its checkpoint", "it was gone before it was read")
    if recipe != "sft":
        loss = trials.history(recipe)[0]["loss"]
        within = _LOG_2_WITHIN[trials.study.quantization.compute_dtype]
        what = f"{recipe}: the first loss is log 2, within {within:g}"
        report.claim(what, abs(loss - math.log(2)) <= within, f"{loss:.6f}")


def _check_checkpoint(
    report: Report, recipe: str, seen: Seen, name: str, final: dict[str, torch.Tensor]
) -> None:
    early, moments = seen.adapters[name], seen.moments[name]
    dtypes = {tensor.dtype for tensor in early.values()} | moments
    what = f"{recipe}: adapter and Adam's moments are float32 in a checkpoint"
    report.claim(what, dtypes == {torch.float32}, str(dtypes))
    for side in ("lora_A", "lora_B"):
        names = [key for key in final if side in key]
        moved = sum(int((final[key] != early[key]).sum()) for key in names)
        share = moved / sum(final[key].numel() for key in names)
        what = f"{recipe}: 99 % of {side} move at {RATE:g}"
        found = f"{share:.4%} from step {seen.steps[name]} on"
        report.claim(what, early.keys() == final.keys() and share >= 0.99, found)
        seen.shares.append(share)


def _check_reference(report: Report, trials: Trials, recipe: str, folder: Path) -> None:
    """The reference's log-probabilities of a batch are the same after training."""
    trainer = trials.trainer(recipe, folder / f"trainer-{recipe}")
    batch = trainer._prepare_inputs(next(iter(trainer.get_train_dataloader())))
    before = _reference(trainer, batch)
    trainer.train()
    after = _reference(trainer, batch)
    apart = max(float((a - b).abs().max()) for a, b in zip(before, after, strict=True))
    report.claim(f"{recipe}: the reference stands still", apart == 0, f"{apart:g} apart")


def _reference(trainer: Any, batch: Any) -> Any:
    trainer.model.train()
    with torch.no_grad():
        return [part.float().cpu() for part in trainer.compute_ref_log_probs(trainer.model, batch)]


def _check_gradient(report: Report, trials: Trials) -> None:
    """The gradient of a batch before an evaluation is that after it."""
    base = trials.inputs.base_models["base"].directory
    assert base is not None
    model: Any = load_base(base, trials.study.quantization)
    embed = model.get_input_embeddings()
    ids = torch.arange(5, 69, device=embed.weight.device).reshape(2, 32)

    def gradient() -> torch.Tensor:
        x = embed(ids).detach().requires_grad_()
        model.train()(inputs_embeds=x, labels=ids).loss.backward()
        assert x.grad is not None
        return x.grad

    before = gradient()
    again = gradient()
    model.eval()
    with torch.no_grad():
        model(ids)
    apart = float((before - gradient()).abs().max() / before.abs().max())
    # Where a gradient is not repeatable, one that is about as far apart as that shows nothing.
    noise = float((before - again).abs().max() / before.abs().max())
    found = f"{apart:.1e} apart; {noise:.1e} without an evaluation between"
    report.claim("a gradient is the same before and after an evaluation", apart <= 4 * noise, found)
