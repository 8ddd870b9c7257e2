"""The model that a trial starts from: a checkpoint in 4 bits, frozen, with its parents' adapters.

Model: `load_base` quantises the starting checkpoint. Each stacked adapter joins as a fixed term of
a linear layer's output, y = W x + s B A x. A forward hook adds it, always without dropout. PEFT
and trl see a plain base model: disabling the trained adapter gives base + parent, which is
exactly DPO's reference.
Invariant: a gradient through the model is the same before and after any eval pass.

Only on a GPU: bitsandbytes' CUDA kernels, bf16 autocast and device placement. Everything else
here runs on a CPU through the same lines.
"""

from __future__ import annotations

import datetime
import gc
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from bitsandbytes.nn import Linear4bit
from huggingface_hub import snapshot_download
from torch import nn
from transformers import AutoTokenizer, BitsAndBytesConfig

from raylab.errors import ModelError
from raylab.spec.data.prepared import DEFAULT_DATE
from raylab.spec.models import ResolvedModel, check_full_precision, check_remote_code
from raylab.spec.sources import BaseModelRef
from raylab.spec.study import Quantization
from raylab.train.chat import fit_tokenizer
from raylab.train.remote_code import check_source
from raylab.weights.adapter import Adapter
from raylab.weights.memory_names import loading_class

_HUB_FILES = ["*.json", "*.safetensors", "*.jinja", "*.model", "*.txt", "*.py"]


def device_of_this_process() -> torch.device:
    """The first GPU that this process sees, or the CPU; a worker of a study sees its own alone."""
    return torch.device("cuda", 0) if torch.cuda.is_available() else torch.device("cpu")


def share_gpu(share: float) -> None:
    """Limit this process to its share of the GPU's memory, where trials share a GPU.

    Only on a GPU: that the allocator raises OutOfMemoryError at the limit.
    """
    if torch.cuda.is_available():
        torch.cuda.set_per_process_memory_fraction(min(1.0, share))


def free_memory() -> None:
    """Free the memory of a training that ended with an exception."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def base_directory(base: ResolvedModel) -> Path:
    """The local directory of a base model, downloaded to this node if it is not there."""
    if base.directory is not None and base.directory.is_dir():
        return base.directory
    return Path(snapshot_download(base.source, revision=base.revision, allow_patterns=_HUB_FILES))


def load_as_saved(checkpoint: Path, trusted: bool) -> Any:
    """The model at `checkpoint` in the dtype of its files, not quantised.

    Raises ModelError where it has code of its own and is not `trusted`, and where its files lack a
    weight: transformers would go on with one that it draws.
    """
    check_remote_code(checkpoint, trusted)
    model, info = loading_class(checkpoint).from_pretrained(
        checkpoint,
        dtype="auto",
        device_map={"": device_of_this_process()},
        trust_remote_code=trusted,
        output_loading_info=True,
    )
    weights = {name for name, _ in model.named_parameters()}
    missing = sorted(weights.intersection(info["missing_keys"]))
    if missing:
        raise ModelError(
            "the model's files lack a weight",
            found=f"{checkpoint}: no {', '.join(missing[:3])} ({len(missing)} in all)",
            expected="every weight that its config names",
        )
    return model


def load_tokenizer(
    directory: Path, source: BaseModelRef | None = None, day: datetime.date = DEFAULT_DATE
) -> Any:
    """The tokenizer at `directory`, ready to frame chats as `source` says, or by its own template.

    day: what a template prints that would print today's date.

    Raises ModelError.
    """
    trusted = source is not None and source.trust_remote_code
    check_remote_code(directory, trusted)
    tokenizer = AutoTokenizer.from_pretrained(directory, trust_remote_code=trusted)
    return fit_tokenizer(tokenizer, source.template if source else None, directory, day)


def load_base(
    checkpoint: Path,
    quantization: Quantization,
    frozen: Sequence[Path] = (),
    *,
    trust_remote_code: bool = False,
) -> nn.Module:
    """The checkpoint, quantised as the study says, on this process's device.

    frozen: directories of adapters that are added as fixed terms. Raises ModelError.
    """
    check_remote_code(checkpoint, trust_remote_code)
    check_full_precision(checkpoint)
    dtype = getattr(torch, quantization.compute_dtype)
    settings = None
    if quantization.bits == 4:
        settings = BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type=quantization.type,
            bnb_4bit_use_double_quant=quantization.double,
            bnb_4bit_compute_dtype=dtype,
        )
    model: nn.Module = loading_class(checkpoint).from_pretrained(
        checkpoint,
        dtype=dtype,
        quantization_config=settings,
        device_map={"": device_of_this_process()},
        trust_remote_code=trust_remote_code,
    )
    check_source(model, checkpoint)
    return_no_router_logits(model)
    disarm_cpu_repacking(model)
    for adapter in frozen:
        attach_frozen(model, adapter)
    return model


def return_no_router_logits(model: Any) -> None:
    """Keep a mixture of experts from returning its router's logits, whatever its config says.

    With them, transformers 5.23 computes the router's auxiliary loss in every pass; `generate` of a
    padded batch fails in it, since the mask is longer than the last tokens' logits.
    """
    for config in (model.config, model.config.get_text_config()):
        if getattr(config, "output_router_logits", False):
            config.output_router_logits = False


def disarm_cpu_repacking(model: nn.Module) -> None:
    """Keep bitsandbytes 0.50.2 from repacking 4-bit weights in an eval pass.

    On a CPU with AVX512-bf16, one forward pass without gradients repacks the weights of a
    Linear4bit. Every later gradient and dequantisation is then wrong, without an error.
    """
    for module in model.modules():
        if isinstance(module, Linear4bit):
            module.support_avx512bf16_for_cpu = False


def disable_base_dropout(model: nn.Module) -> None:
    """Turn off the base model's own dropout, but not the adapter's.

    trl computes DPO's reference in training mode. With dropout of its own, a base model would
    give a noisy reference.
    """
    for name, module in model.named_modules():
        if isinstance(module, nn.Dropout) and "lora_" not in name:
            module.p = 0.0


def attach_frozen(model: nn.Module, directory: Path) -> None:
    """Add the adapter at `directory` to `model` as a fixed term. Raises ModelError."""
    adapter = Adapter.open(directory)
    modules = dict(model.named_modules())
    for name in adapter.names:
        module = modules.get(name.removesuffix(".weight"))
        if module is None:
            raise ModelError(
                "the parent's adapter does not fit the base model",
                found=f"{directory} targets {name}",
                expected="modules of the base model",
            )
        down, up, scale = adapter.factors(name)
        if name in adapter.conv1d:
            # The stored weight is (inputs, outputs), and so is the product of these factors.
            down, up = up.T, down.T
        module.register_forward_hook(_FrozenTerm(down, up, scale))


class _FrozenTerm:
    """Adds s B A x to a layer's output; moves its factors to the device of x."""

    def __init__(self, down: torch.Tensor, up: torch.Tensor, scale: float) -> None:
        self._down, self._up, self._scale = down, up, scale

    def __call__(self, module: nn.Module, inputs: tuple[torch.Tensor, ...], output: Any) -> Any:
        x = inputs[0]
        if self._down.device != x.device:
            self._down, self._up = self._down.to(x.device), self._up.to(x.device)
        with torch.autocast(x.device.type, enabled=False):
            term = nn.functional.linear(x.to(self._down.dtype), self._down)
            term = nn.functional.linear(term, self._up) * self._scale
        return output + term.to(output.dtype)
