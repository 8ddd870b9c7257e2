"""The check `memory`: the peak of a training beside the estimate of `raylab plan`.

Model: a model of an architecture's full width with two layers, and one of an 8B shape, train two
steps through raylab's own trainer. Its weights are zeros out of a file without content: memory
depends on shapes alone, and such a file is made and read at once. What counts is the peak of what
torch's allocator handed out, and for DPO's reference the peak while the trainer is built. On a CPU
small models are counted by torch's profiler, against the estimate with the CPU's kernels.
Invariant: a combination whose estimate does not fit this GPU is left out, and named.
"""

from __future__ import annotations

import gc
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset

from gpu_checks.allocations import peak_of
from gpu_checks.bases import DEMO, compute_dtype, copy_tokenizer
from gpu_checks.report import Report, Setting
from gpu_checks.shapes import SMALL, WIDE, write_empty_model
from raylab.plan.activation_memory import KERNELS
from raylab.plan.memory import Memory, Workload, estimate_memory, usable
from raylab.plan.model_shapes import shape_of
from raylab.spec.recipes import Variant
from raylab.spec.seeds import Seeds
from raylab.spec.study import Evaluation, Lora, Method, Quantization, Training
from raylab.train.attempts import quiet_libraries
from raylab.train.examples import Examples
from raylab.train.methods import TrainerSettings, build_trainer
from raylab.train.model import load_base, load_tokenizer

WITHIN = 0.15
_SENTENCE = "今日はとてもよい天気です。"
_ROWS = 4


@dataclass(frozen=True)
class Combination:
    """One training: an architecture of `gpu_checks.shapes`, a method and two settings."""

    architecture: str
    method: Method
    checkpointing: bool
    length: int

    def __str__(self) -> str:
        kept = "checkpointing" if self.checkpointing else "all kept"
        return f"{self.architecture} {self.method} {self.length} {kept}"


def combinations(setting: Setting) -> list[Combination]:
    """All combinations, the most telling first."""
    if not setting.on_gpu:
        return [
            Combination("llama", "sft", False, 256),
            Combination("gemma2", "dpo", True, 256),
        ]
    first = [
        Combination("llama-8b", "sft", True, 2048),
        Combination("llama-8b", "dpo", False, 512),
        *(Combination(name, "dpo", False, 2048) for name in WIDE if name != "llama-8b"),
        *(Combination(name, "sft", True, 512) for name in WIDE if name != "llama-8b"),
    ]
    settings: list[tuple[Method, bool, int]] = [
        ("sft", False, 2048),
        ("dpo", True, 2048),
        ("sft", False, 512),
        ("dpo", True, 512),
        ("sft", True, 2048),
        ("dpo", False, 512),
        ("sft", True, 512),
        ("dpo", False, 2048),
    ]
    rest = [Combination(name, *each) for each in settings for name in WIDE]
    return [*first, *(one for one in rest if one not in first)]


def check(setting: Setting, report: Report) -> None:
    """Every combination that time and memory allow."""
    apart: list[float] = []
    for one in combinations(setting):
        # An 8B shape takes a while to be read and quantised.
        seconds = 15 if one.architecture == "llama-8b" else 5
        if report.has_time(seconds, str(one)):
            apart += _check_combination(setting, report, one)
            report.headline(f"at most {max(map(abs, apart), default=0):.1%} apart")


def _check_combination(setting: Setting, report: Report, one: Combination) -> list[float]:
    """Claims about one combination; by what share the estimates miss."""
    base = setting.work / "empty" / one.architecture
    if not base.exists():
        shapes = WIDE if setting.on_gpu else SMALL
        write_empty_model(base, shapes[one.architecture])
        copy_tokenizer(base)
    need = _workload(setting, base, one)
    estimate = estimate_memory(need, KERNELS[setting.device])
    if setting.on_gpu:
        room = usable(torch.cuda.get_device_properties(0).total_memory)
        if estimate.peak > room:
            report.left_out(str(one), f"it needs {estimate.peak / 1e9:.3g} GB")
            return []
    measure = _on_gpu if setting.on_gpu else _on_cpu
    with quiet_libraries():
        found = measure(setting, base, need)
    return [*_compared(report, one, estimate, found, setting)]


def _compared(
    report: Report, one: Combination, estimate: Memory, found: Mapping[str, int], setting: Setting
) -> Iterator[float]:
    """Claim that each phase is as estimated; gives by what share it is not."""
    own = estimate.model if setting.on_gpu else 0
    expected = {"training": own + estimate.phases["training"]}
    if "reference" in estimate.phases:
        expected["reference"] = own + estimate.phases["reference"]
    for phase, bytes_ in expected.items():
        share = bytes_ / found[phase] - 1
        what = f"{one}, {phase}: within {WITHIN:.0%}"
        said = f"estimated {bytes_ / 1e9:.3g} GB, counted {found[phase] / 1e9:.3g} GB, {share:+.1%}"
        report.claim(what, abs(share) <= WITHIN, said)
        yield share
    for name in set(found) - set(expected) - {"reference"}:
        report.figure(f"{one}, {name}", found[name] / 1e9, "GB")


def _workload(setting: Setting, base: Path, one: Combination) -> Workload:
    shape = shape_of(json.loads((base / "config.json").read_text()))
    assert shape is not None, "the plan knows all architectures here"
    dtype: Any = "bfloat16" if not setting.on_gpu else compute_dtype(setting)
    return Workload(
        shape=shape,
        method=one.method,
        quantization=Quantization(compute_dtype=dtype),
        lora=Lora(),
        training=Training(
            epochs=1, max_length=one.length, gradient_checkpointing=one.checkpointing
        ),
        evaluation=Evaluation(prompts=0, every_epochs=None),
    )


def _trainer(base: Path, need: Workload, model: Any, directory: Path) -> Any:
    variant = Variant("x", "x", need.method, {}, None, "merge", need.training, need.lora, {}, "x")
    settings = TrainerSettings(variant, Seeds.of(42), need.quantization, need.evaluation, directory)
    tokenizer = load_tokenizer(DEMO / "base")
    return build_trainer(model, tokenizer, _examples(need), settings, [])


def _examples(need: Workload) -> Examples:
    """Rows of which every other is cut, so that each batch is long and has padding."""

    def message(role: str, text: str) -> list[dict[str, str]]:
        return [{"role": role, "content": text}]

    long, rows = _SENTENCE * (need.training.max_length // 4), []
    for number in range(_ROWS):
        answers = {"chosen": long, "rejected": _SENTENCE}
        if need.method == "sft":
            answers = {"completion": _SENTENCE if number % 2 else long}
        row = {key: message("assistant", value) for key, value in answers.items()}
        rows.append({"prompt": message("user", f"質問{number}"), **row})
    return Examples(Dataset.from_list(rows), None)


def _on_gpu(setting: Setting, base: Path, need: Workload) -> dict[str, int]:
    """Peaks in bytes: `training` and `reference` allocated, `reserved` by torch's allocator."""
    with _emptied():
        before = torch.cuda.memory_allocated()
        model = load_base(base, need.quantization)
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        trainer = _trainer(base, need, model, setting.work / "memory")
        found = {"reference": torch.cuda.max_memory_allocated() - before}
        torch.cuda.reset_peak_memory_stats()
        trainer.train()
        found["training"] = torch.cuda.max_memory_allocated() - before
        found["reserved"] = torch.cuda.max_memory_reserved()
        del trainer, model
    return found


@contextmanager
def _emptied() -> Iterator[None]:
    gc.collect()
    torch.cuda.empty_cache()
    try:
        yield
    finally:
        gc.collect()
        torch.cuda.empty_cache()


def _on_cpu(setting: Setting, base: Path, need: Workload) -> dict[str, int]:
    """The peaks of what a trainer allocates when it is built, and when it trains, in bytes."""
    model = load_base(base, need.quantization)
    make: Callable[[], Any] = lambda: _trainer(base, need, model, setting.work / "memory")  # noqa: E731
    trainer, building = peak_of(make)
    # Adapters are no part of the phase, but are made with the trainer.
    adapters = estimate_memory(need, KERNELS["cpu"]).adapters
    _, training = peak_of(trainer.train)
    return {"training": training, "reference": building - adapters}
