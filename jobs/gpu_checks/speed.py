"""The check `speed`: tokens per second beside trl alone, and what settings do to them.

Model: trl alone is the training that raylab does, as one writes it without raylab. Both train the
same steps in this process, in turns, on examples that are all cut to one length; a first training
that warms up does not count. Further trainings by trl change one setting each. The share of the
GPU's peak is by the plan's count of operations.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from peft import LoraConfig
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    BitsAndBytesConfig,
    TrainerCallback,
    set_seed,
)
from trl import SFTConfig, SFTTrainer

from gpu_checks.bases import base_model, compute_dtype, long_rows
from gpu_checks.report import Report, Setting
from gpu_checks.trainings import SEED, SFT, Trials, write_study
from raylab.plan.file_shapes import shape_of_base
from raylab.plan.resources import EFFICIENCY, FORWARD, PEAK_FLOPS
from raylab.train.attempts import quiet_libraries
from raylab.train.model import disarm_cpu_repacking

RATE = 1e-4
_PEAKS = {
    "H200": 989e12, "H100 PCIe": 756e12, "H100": 989e12, "A100": 312e12, "L40S": 362e12,
    "L4": 121e12, "A10G": 70e12, "A10": 125e12, "4090": 165e12, "V100": 125e12, "T4": 65e12,
}  # fmt: skip
"""Dense products in 16 bits, in flop/s, as the data sheets give them, by a part of the name."""


@dataclass(frozen=True)
class Options:
    """What a training by trl alone varies."""

    length: int
    batch: int = 2
    checkpointing: bool = False
    attention: str | None = None


@dataclass
class _Clock(TrainerCallback):
    """Seconds from the begin of a training to its end."""

    seconds: float = 0.0
    started: float = field(default=0.0)

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Start it."""
        self.started = time.monotonic()

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Stop it."""
        self.seconds = time.monotonic() - self.started


@dataclass(frozen=True)
class Trained:
    """One training: tokens per second, the first loss, the adapter's bytes."""

    rate: float
    first_loss: float
    adapter: bytes


def check(setting: Setting, report: Report) -> None:
    """Both sides in turns, then settings."""
    folder = setting.work / "speed"
    folder.mkdir()
    base, steps = base_model(setting), setting.sized(20, 8, 6)
    if not setting.on_gpu:
        torch.set_num_threads(1)  # as raylab's own trial, whose adapter has the same bytes then
    usual = Options(setting.sized(1024, 512, 64))
    rows = long_rows(folder, usual.batch * steps, usual.length)["D0"]
    few = long_rows(setting.work, 2 * usual.batch, usual.length)["D0"]
    _bare(setting, base, few, folder / "warm", usual)
    theirs, ours = [], []
    for turn in range(setting.sized(2, 2, 1)):
        if turn == 0 or report.has_time(12, f"turn {turn + 1} beside trl alone"):
            theirs.append(_bare(setting, base, rows, folder / f"trl-{turn}", usual))
            ours.append(_raylab(setting, base, rows, folder / f"raylab-{turn}", usual))
    rate = _compare(setting, report, theirs, ours)
    if setting.on_gpu:
        _shares(setting, report, folder, base, rows, rate)
    for name, options in _variants(usual, setting).items():
        if report.has_time(setting.sized(6, 4, 3), name):
            _vary(setting, report, name, options, base, folder)


def _compare(setting: Setting, report: Report, theirs: list[Trained], ours: list[Trained]) -> float:
    best, mine = (max(side, key=lambda each: each.rate) for side in (theirs, ours))
    report.figure("trl alone", best.rate, "tokens/s")
    report.figure("raylab", mine.rate, "tokens/s")
    apart = abs(mine.first_loss / best.first_loss - 1)
    found = f"{mine.first_loss:.6f}, {best.first_loss:.6f}"
    report.claim("both do the same training: the first loss is the same", apart < 1e-3, found)
    same = best.adapter == mine.adapter
    if setting.on_gpu:
        report.figure("their adapters have the same bytes", same)
        report.aim(
            "raylab's tokens per second over those of trl alone", mine.rate / best.rate, 0.97
        )
    else:
        # A time on a CPU that others use says nothing; the bytes do.
        report.claim("both leave the same adapter, byte for byte", same)
        report.figure("raylab's tokens per second over those of trl alone", mine.rate / best.rate)
    report.headline(f"{mine.rate:.4g} tokens/s, {mine.rate / best.rate:.3f} of trl alone")
    return mine.rate


def _variants(usual: Options, setting: Setting) -> dict[str, Options]:
    length, batches = usual.length, setting.sized((1, 4, 8), (4,), (4,))
    return {
        "trl alone with gradient checkpointing": Options(length, checkpointing=True),
        "trl alone with eager attention": Options(length, attention="eager"),
        "trl alone with sdpa": Options(length, attention="sdpa"),
        **{f"trl alone in batches of {n}": Options(length, batch=n) for n in batches},
    }


def _vary(
    setting: Setting, report: Report, name: str, options: Options, base: Path, folder: Path
) -> None:
    steps = setting.sized(8, 4, 2)
    place = folder / name.replace(" ", "-")
    place.mkdir()
    rows = long_rows(place, options.batch * steps, options.length)["D0"]
    try:
        found = _bare(setting, base, rows, place / "out", options)
    except torch.OutOfMemoryError:
        report.left_out(name, "the GPU's memory is too small")
        torch.cuda.empty_cache()
    else:
        report.figure(name, found.rate, "tokens/s")


def _bare(setting: Setting, base: Path, rows: Path, out: Path, options: Options) -> Trained:
    """A training by trl alone."""
    dtype = getattr(torch, compute_dtype(setting))
    tokenizer = AutoTokenizer.from_pretrained(base)
    attention = {"attn_implementation": options.attention} if options.attention else {}
    with quiet_libraries():
        set_seed(SEED)
        model = AutoModelForCausalLM.from_pretrained(
            base,
            dtype=dtype,
            quantization_config=BitsAndBytesConfig(
                load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=dtype
            ),
            device_map={"": torch.device("cuda", 0) if setting.on_gpu else "cpu"},
            **attention,
        )
        disarm_cpu_repacking(model)
        clock = _Clock()
        trainer = SFTTrainer(
            model=model,
            args=_arguments(setting, out, options),
            train_dataset=_examples(rows),
            processing_class=tokenizer,
            peft_config=LoraConfig(
                r=8,
                lora_alpha=128,
                lora_dropout=0.05,
                target_modules="all-linear",
                task_type="CAUSAL_LM",
            ),
            callbacks=[clock],
        )
        for parameter in trainer.model.parameters():
            if parameter.requires_grad:
                parameter.data = parameter.data.float()
        trainer.train()
        trainer.model.save_pretrained(out)
    logs = [log for log in trainer.state.log_history if "loss" in log]
    adapter = (out / "adapter_model.safetensors").read_bytes()
    return Trained(logs[-1]["num_tokens"] / clock.seconds, logs[0]["loss"], adapter)


def _arguments(setting: Setting, out: Path, options: Options) -> SFTConfig:
    dtype = compute_dtype(setting)
    return SFTConfig(
        output_dir=str(out),
        seed=SEED,
        per_device_train_batch_size=options.batch,
        num_train_epochs=1,
        learning_rate=RATE,
        lr_scheduler_type="cosine",
        optim="adamw_torch",
        max_length=options.length,
        completion_only_loss=True,
        gradient_checkpointing=options.checkpointing,
        bf16=dtype == "bfloat16",
        fp16=dtype == "float16",
        use_cpu=not setting.on_gpu,
        dataloader_pin_memory=setting.on_gpu,
        save_strategy="no",
        report_to=[],
        disable_tqdm=True,
        logging_steps=1,
    )


def _examples(rows: Path) -> Dataset:
    parsed = [json.loads(line) for line in rows.read_text(encoding="utf-8").splitlines()]
    return Dataset.from_list(
        [
            {
                "prompt": [{"role": "user", "content": row["prompt"]}],
                "completion": [{"role": "assistant", "content": row["completion"]}],
            }
            for row in parsed
        ]
    )


def _trials(setting: Setting, base: Path, rows: Path, out: Path, options: Options) -> Trials:
    study = write_study(
        out.with_suffix(".yaml"),
        setting,
        base,
        {"D0": rows},
        {"sft": {**SFT, "data": "D0"}},
        training={
            "learning_rate": RATE,
            "batch_size": options.batch,
            "max_length": options.length,
        },
    )
    return Trials(study, out)


def _raylab(setting: Setting, base: Path, rows: Path, out: Path, options: Options) -> Trained:
    """The same training by raylab."""
    trials = _trials(setting, base, rows, out, options)
    metrics = trials.run("sft").metrics
    first = trials.history("sft")[0]["loss"]
    return Trained(metrics["tokens_per_second"], first, trials.adapter("sft").read_bytes())


def _shares(
    setting: Setting, report: Report, folder: Path, base: Path, rows: Path, rate: float
) -> None:
    """The share of the GPU's peak that the training reaches, by the plan's count."""
    trials = _trials(setting, base, rows, folder / "shape", Options(1024))
    shape = shape_of_base(trials.inputs.base_models["base"])
    assert shape is not None, "the plan knows a Llama"
    used = rate * FORWARD * 2 * shape.parameters
    name = torch.cuda.get_device_name(0)
    reached = _product_flops()
    report.figure("a large product in 16 bits", reached / 1e12, "Tflop/s")
    report.figure("the training's share of that", used / reached)
    sheet = next((flops for part, flops in _PEAKS.items() if part in name), None)
    if sheet:
        report.figure(
            f"its share of the {sheet / 1e12:.0f} Tflop/s of the data sheet", used / sheet
        )
    report.figure(
        f"its Tflop/s (the plan assumes {EFFICIENCY:.0%} of {PEAK_FLOPS / 1e12:.0f})", used / 1e12
    )


def _product_flops(size: int = 8192) -> float:
    """Operations per second of a product of two square matrices in 16 bits, the best of ten."""
    dtype = torch.bfloat16 if torch.cuda.is_bf16_supported(False) else torch.float16
    a, b = (torch.randn(size, size, device="cuda", dtype=dtype) for _ in range(2))
    seconds = []
    for _ in range(11):
        torch.cuda.synchronize()
        started = time.perf_counter()
        a @ b
        torch.cuda.synchronize()
        seconds.append(time.perf_counter() - started)
    return 2 * size**3 / min(seconds[1:])
