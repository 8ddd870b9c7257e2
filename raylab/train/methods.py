"""The table of training methods: which trl trainer each uses, and with which options.

Model: a method is a row in METHODS. To add one, add a row and its examples in
`raylab.train.examples`. `build_trainer` makes the trainer (of `raylab.train.trainers`), then
undoes what trl 1.16 changes.
Invariant: adapter weights, and so Adam's state, are float32. The adapter keeps the study's
dropout in every method. An evaluation during training changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import TrainerCallback
from trl import DPOConfig, SFTConfig

from raylab.plan.memory import EVALUATION_BATCH
from raylab.spec.recipes import Variant
from raylab.spec.seeds import Seeds
from raylab.spec.study import Evaluation, Quantization, Training
from raylab.store.phase import Tell, silent
from raylab.train.dataset_cache import TrialCache
from raylab.train.examples import Examples
from raylab.train.model import disable_base_dropout
from raylab.train.model_loss import check_model
from raylab.train.targets import lora_config
from raylab.train.trainers import PairWeightedDPO, TokenWeightedSFT


@dataclass(frozen=True)
class Method:
    """A trl trainer, its config, the options of the method, and a change of its model."""

    trainer: type
    config: type
    options: Callable[[Training], dict[str, Any]]
    prepare: Callable[[nn.Module], None]


METHODS: dict[str, Method] = {
    "sft": Method(
        trainer=TokenWeightedSFT,
        config=SFTConfig,
        options=lambda training: {"completion_only_loss": True},
        prepare=lambda model: None,
    ),
    # Rafailov et al. 2023, arXiv:2305.18290. trl's disable_dropout would turn off the adapter's
    # dropout too. Here only the base model's own is turned off.
    "dpo": Method(
        trainer=PairWeightedDPO,
        config=DPOConfig,
        options=lambda training: {"beta": training.beta, "disable_dropout": False},
        prepare=disable_base_dropout,
    ),
}


@dataclass(frozen=True)
class TrainerSettings:
    """Everything that a trainer is built from, besides the model and the data."""

    variant: Variant
    seed: Seeds
    quantization: Quantization
    evaluation: Evaluation
    directory: Path
    cache: TrialCache | None = None
    tell: Tell = silent


def build_trainer(
    model: nn.Module,
    tokenizer: Any,
    examples: Examples,
    settings: TrainerSettings,
    callbacks: Sequence[TrainerCallback],
) -> Any:
    """The trl trainer of one trial, ready to train."""
    method = METHODS[settings.variant.method]
    method.prepare(model)
    check_model(model)
    trainer = method.trainer(
        model=model,
        args=_arguments(method, settings, examples),
        train_dataset=examples.training,
        eval_dataset=examples.held_out,
        processing_class=tokenizer,
        peft_config=lora_config(settings.variant.lora),
        callbacks=list(callbacks),
        cache=settings.cache,
        tell=settings.tell,
        noise=settings.seed.dropout,
    )
    # Undo trl 1.16's cast of QLoRA adapters to bf16, which loses small updates.
    for parameter in trainer.model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.to(torch.float32)
    return trainer


def _arguments(method: Method, settings: TrainerSettings, examples: Examples) -> Any:
    training = settings.variant.training
    dtype = settings.quantization.compute_dtype
    return method.config(
        output_dir=str(settings.directory),
        seed=settings.seed.init,
        data_seed=settings.seed.order,
        per_device_train_batch_size=training.batch_size,
        per_device_eval_batch_size=max(EVALUATION_BATCH, training.batch_size),
        gradient_accumulation_steps=training.gradient_accumulation,
        num_train_epochs=training.epochs,
        learning_rate=training.learning_rate,
        lr_scheduler_type=training.scheduler,
        warmup_steps=training.warmup_ratio,
        optim="adamw_torch",
        weight_decay=training.weight_decay,
        max_grad_norm=training.max_grad_norm,
        max_length=training.max_length,
        gradient_checkpointing=training.gradient_checkpointing,
        bf16=dtype == "bfloat16",
        fp16=dtype == "float16",
        use_cpu=not torch.cuda.is_available(),
        dataloader_pin_memory=torch.cuda.is_available(),
        save_strategy="no",
        report_to=[],
        disable_tqdm=True,
        logging_steps=1,
        # No auxiliary loss of a mixture's router: it is a statistic of a micro-batch, so that the
        # update would depend on its size, and no loss of the answers.
        router_aux_loss_coef=0.0,
        # Otherwise transformers shows the last finite loss in place of NaN.
        logging_nan_inf_filter=False,
        **_evaluation(settings, examples),
        **method.options(training),
    )


def _evaluation(settings: TrainerSettings, examples: Examples) -> dict[str, Any]:
    """The steps between held-out losses; `Trainer` itself takes none at the end."""
    every = settings.evaluation.every_epochs
    if examples.held_out is None or every is None:
        return {"eval_strategy": "no"}
    training = settings.variant.training
    per_step = training.batch_size * training.gradient_accumulation
    steps = max(1, round(every * -(-len(examples.training) // per_step)))
    return {"eval_strategy": "steps", "eval_steps": steps}


def held_out_loss(trainer: Any) -> float | None:
    """The held-out loss after the last step; None where nothing is held out.

    It is computed here unless the last step had an evaluation.
    """
    if trainer.eval_dataset is None:
        return None
    for log in reversed(trainer.state.log_history):
        if "eval_loss" in log and log["step"] == trainer.state.global_step:
            return float(log["eval_loss"])
    return float(trainer.evaluate()["eval_loss"])
