"""Is the loss that trl trains on the model's own? A check of every model, before it trains.

Model: trl 1.16 takes no logits from a model. It runs the model's trunk (`base_model`) and projects
by the head (`get_output_embeddings`), with the scales and caps that it knows from some configs.
PEFT leaves out the same head where all linear layers are adapted. Two checks compare this with
the logits that the model itself makes. `check_head` needs the config alone: it makes the model
without weights, with a small vocabulary, puts large random hidden states in the place of what the
trunk gives, and compares in float32 on the CPU. `check_loss` compares on a training example of the
loaded model, whose logits may be rounded.
Invariant: a model that passes gives the same log-probabilities in both ways up to rounding. A
check moves no random state and no weight of a model that is trained.
"""

from __future__ import annotations

import copy
import warnings
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import AutoConfig
from transformers.modeling_outputs import MoeModelOutputWithPast
from trl.trainer.utils import add_fused_lm_head

from raylab.errors import ModelError
from raylab.train.attempts import cause_of
from raylab.train.known_losses import is_known
from raylab.train.random_state import preserved_random_state
from raylab.train.remote_code import check_source, has_own_code
from raylab.weights.memory_names import loading_class

_VOCABULARY, _SPREAD = 96, 10.0
"""Of the check without weights; hidden states of this spread make logits that any cap changes."""
_TOKENS = 64
"""Of an example: trl never forms all logits of a long one, and there may be no room for them."""
_EXACT = 1e-3
"""Relative to the largest log-probability: float32 in products of other shapes."""
_MEAN = 0.05
"""Of the log-probabilities of an example, beside the rounding of the logits."""


class _Outputs(MoeModelOutputWithPast):
    """What a trunk gives: hidden states, and None for whatever else a model looks at."""

    def __getattr__(self, name: str) -> None:
        if name.startswith("__"):
            raise AttributeError(name)


def check_architecture(name: str, directory: Path, *, trust_remote_code: bool = False) -> None:
    """Refuse the checkpoint at `directory`, which `name` names, by its config alone.

    A config of which no model can be made here is left to the checks before the training. Raises
    ModelError.
    """
    try:
        config = AutoConfig.from_pretrained(directory, trust_remote_code=trust_remote_code)
    except Exception:
        return
    check_head(name, config, trust_remote_code=trust_remote_code)


def check_model(model: Any) -> None:
    """Refuse a loaded model by its parts and, if transformers made it, by its config.

    Raises ModelError.
    """
    check_parts(model)
    # Code that comes with a model is not made twice: `check_loss` looks at it.
    if not is_known(model.config.to_dict()) and not has_own_code(model):
        check_head("the model", model.config)


def check_head(name: str, config: Any, *, trust_remote_code: bool = False) -> None:
    """Refuse a model of `config` whose logits are not those of its head over its trunk.

    Raises ModelError.
    """
    model = _without_weights(config, trust_remote_code)
    if model is None:
        return
    check_parts(model, name)
    apart = _head_difference(model)
    if apart is not None and apart > _EXACT:
        raise _other_loss(name, model, f"log-probabilities {apart:.3g} apart, relatively")


def check_parts(model: Any, name: str = "the model") -> None:
    """Refuse a model that does not name its trunk and its head. Raises ModelError."""
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
            f"{name} does not tell its trunk from its head, so trl cannot take its loss",
            found=f"{type(model).__name__}: {', '.join(missing)}",
            expected="both, as most models of transformers have them",
            todo="add them to a copy of the model's code; its weights can stay"
            if has_own_code(model)
            else "train another base model, or take this one out of the study",
        )


def check_loss(trainer: Any) -> None:
    """Refuse a loaded model whose logits are not those of its head over its trunk.

    One training example is looked at. Raises ModelError.
    """
    model = trainer.model.get_base_model()
    row = trainer.train_dataset[0]
    ids = row.get("input_ids") or row["prompt_ids"] + row["chosen_ids"]
    tokens = torch.tensor([ids[: min(trainer.args.max_length, _TOKENS)]], device=model.device)
    was_training = trainer.model.training
    trainer.model.eval()
    with preserved_random_state(), torch.no_grad():
        logits = model(input_ids=tokens).logits
        own = _log_probs(logits, tokens)
        try:
            other = model(input_ids=tokens, labels=tokens, fused_lm_head=True).log_probs
        except (AttributeError, RuntimeError, TypeError) as error:
            if cause_of(error) == "oom":
                raise
            raise _other_loss("the model", model, f"trl's way fails: {error}") from error
    trainer.model.train(was_training)
    # Both ways round the logits, by up to half a unit in the last place of the largest. Numbers
    # that are not finite are left to the training, which says so.
    rounding = torch.finfo(logits.dtype).eps * float(logits.abs().max())
    apart = float((own - other).abs().mean())
    if apart > _MEAN + rounding:
        raise _other_loss("the model", model, f"log-probabilities {apart:.3g} apart")


def _other_loss(name: str, model: Any, found: str) -> ModelError:
    if has_own_code(model):
        what = f"{name}: its own code makes its logits in another way than its head alone"
        todo = "fold scales of the logits into the head of a copy of the model"
    else:
        what = f"{name} makes its logits in another way than trl does"
        todo = "train another base model, or take this one out of the study"
    return ModelError(
        what,
        found=f"{type(model).__name__}: {found}",
        expected="logits = head(trunk), with the scales that trl knows: it would train another "
        "loss than the model's own",
        todo=todo,
    )


def _head_difference(model: Any) -> float | None:
    """The largest difference of log-probabilities in the two ways, relative to the largest one.

    None where the model cannot be run without its trunk; infinity where trl cannot run it.
    """
    with preserved_random_state(), warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        torch.manual_seed(0)
        _draw_weights(model)
        tokens = torch.randint(3, _VOCABULARY, (1, _TOKENS))
        for width in _widths(model):
            hidden = _SPREAD * torch.randn(1, _TOKENS, width)
            for trunk in _trunks(model):
                trunk.forward = partial(_forward_of_trunk, hidden)
            try:
                own = _log_probs(model(input_ids=tokens).logits, tokens)
            except Exception:  # Anything may fail in a class that looks for more than a trunk.
                continue
            return _difference_of(model, tokens, own)
    return None


def _trunks(model: Any) -> list[Any]:
    """The trunk, and the decoder within it that some models call in its place."""
    decoder = getattr(model.base_model, "decoder", None)
    return [model.base_model, *([decoder] if isinstance(decoder, nn.Module) else [])]


def _forward_of_trunk(hidden: torch.Tensor, *args: Any, **kwargs: Any) -> _Outputs:
    return _Outputs(last_hidden_state=hidden)


def _without_weights(config: Any, trust_remote_code: bool) -> Any | None:
    """The model in float32 on torch's meta device, where it takes no memory; None without one."""
    config = copy.deepcopy(config)
    try:
        for part in {id(c): c for c in (config, config.get_text_config())}.values():
            if getattr(part, "vocab_size", None):
                part.vocab_size = _VOCABULARY
            if getattr(part, "pad_token_id", None) is not None:
                part.pad_token_id = 0
        with preserved_random_state(), torch.device("meta"):
            model = loading_class(Path(config._name_or_path)).from_config(
                config, trust_remote_code=trust_remote_code, dtype=torch.float32
            )
        check_source(model, Path(config._name_or_path))
    except Exception:  # As above; loading the model says what is wrong with it.
        return None
    return model.eval()


def _draw_weights(model: Any) -> None:
    """Give memory and random values to all but the trunk."""
    for name, child in model.named_children():
        if name != model.base_model_prefix:
            child.to_empty(device="cpu")
            for weight in child.parameters():
                weight.normal_(std=weight.shape[-1] ** -0.5 if weight.dim() > 1 else 1.0)
            for buffer in child.buffers():
                buffer.zero_()


def _widths(model: Any) -> list[int]:
    """The widths that hidden states may have, the likely one first."""
    widths = [getattr(model.config.get_text_config(), "hidden_size", None)]
    widths.append(model.get_output_embeddings().weight.shape[-1])
    return [width for width in dict.fromkeys(widths) if width]


def _log_probs(logits: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
    logs = torch.log_softmax(logits.float(), -1)[:, :-1]
    return logs.gather(-1, tokens[:, 1:, None])[..., 0]


def _difference_of(model: Any, tokens: torch.Tensor, own: torch.Tensor) -> float:
    add_fused_lm_head(model)
    try:
        other = model(input_ids=tokens, labels=tokens, fused_lm_head=True).log_probs
    except Exception:
        return float("inf")
    return float((own - other).abs().max() / own.abs().max().clamp(min=1))
