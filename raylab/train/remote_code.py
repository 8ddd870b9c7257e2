"""Checks of models with code of their own: trl's loss has to be theirs.

Model: trl 1.16 takes no logits from a model. It runs the model's trunk (`base_model`) and projects
by the head (`get_output_embeddings`), with the scales and caps that it knows from the configs of
transformers' own models. PEFT leaves out the same head where all linear layers are adapted.
Invariant: a model that passes gives a training example the same log-probabilities in both ways,
and its code is the code beside its weights. Models of transformers itself are not checked.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import torch
from torch import nn

from raylab.errors import ModelError
from raylab.train.random_state import preserved_random_state

_MODULES = "transformers_modules."
"""Where transformers puts the code that comes with a model."""
_TOLERANCE = 0.05
"""Of a log-probability: bfloat16 rounds differently in products of other shapes."""


def check_source(model: nn.Module, directory: Path) -> None:
    """Refuse a model whose code is not the code at `directory`.

    transformers 5.23 keeps one model class for each config class in a process. Of two models in
    directories of one name, whose configurations have the same code, it makes the second by the
    code of the first. Raises ModelError.
    """
    if not _has_own_code(model):
        return
    module = sys.modules[type(model).__module__]
    assert module.__file__ is not None
    own = directory / f"{module.__name__.rpartition('.')[2]}.py"
    if not own.is_file() or own.read_bytes() != Path(module.__file__).read_bytes():
        raise ModelError(
            "the model was made by the code of another model that this process has loaded",
            found=f"{module.__file__} for {directory}",
            expected=str(own),
            todo="train the two models in two studies, one after the other",
        )


def check_parts(model: Any) -> None:
    """Refuse a model that does not name its trunk and its head.

    Raises ModelError.
    """
    if not _has_own_code(model):
        return
    missing = [
        message
        for message, is_missing in (
            ("`base_model_prefix` names no part of it", model.base_model is model),
            ("`get_output_embeddings` returns none", model.get_output_embeddings() is None),
        )
        if is_missing
    ]
    if missing:
        raise ModelError(
            "the model's own code does not tell its trunk from its head",
            found=f"{type(model).__name__}: {', '.join(missing)}",
            expected="both, as models of transformers have them",
            todo="add them to a copy of the model's code; its weights can stay",
        )


def check_loss(trainer: Any) -> None:
    """Refuse a model whose logits are not those of its head over its trunk.

    Raises ModelError.
    """
    model = trainer.model.get_base_model()
    if not _has_own_code(model):
        return
    row = trainer.train_dataset[0]
    ids = row.get("input_ids") or row["prompt_ids"] + row["chosen_ids"]
    tokens = torch.tensor([ids[: trainer.args.max_length]], device=model.device)
    was_training = trainer.model.training
    trainer.model.eval()
    with preserved_random_state(), torch.no_grad():
        logs = torch.log_softmax(model(input_ids=tokens).logits.float(), -1)[:, :-1]
        own = logs.gather(-1, tokens[:, 1:, None])[..., 0]
        other = model(input_ids=tokens, labels=tokens, fused_lm_head=True).log_probs
    trainer.model.train(was_training)
    apart = float((own - other).abs().max())
    if apart > _TOLERANCE:
        raise ModelError(
            "the model's own code makes its logits in another way than its head alone",
            found=f"{type(model).__name__}: log-probabilities {apart:.3g} apart",
            expected="logits = head(trunk), which is what trl trains on",
            todo="fold scales of the logits into the head of a copy of the model",
        )


def _has_own_code(model: nn.Module) -> bool:
    return type(model).__module__.startswith(_MODULES)
