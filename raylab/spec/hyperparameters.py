"""The parameters of one training, its adapter and its base model's quantisation.

Model: `Overrides` models have the fields and bounds of the model that they override, all of them
optional.
Invariant: the defaults are the values of the study that raylab was made for: QLoRA with r = 8 and
alpha = 128 on all linear layers; 3 epochs, batch 2, Adam, 1e-5, cosine; DPO beta = 0.3.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, create_model

from raylab.spec.data.framing import Learn
from raylab.spec.sources import Frozen


class Quantization(Frozen):
    """How the frozen base model is held while an adapter is trained on it (QLoRA)."""

    bits: Literal[4, 16] = 4
    """4: bitsandbytes, one `type`. 16: not quantised, held in `compute_dtype`."""
    type: Literal["nf4", "fp4"] = "nf4"
    double: bool = False
    """Quantise the quantisation constants as well."""
    compute_dtype: Literal["float32", "bfloat16", "float16"] = "bfloat16"
    """Dtype of activations and of everything that is not quantised."""


class Lora(Frozen):
    """The adapter: delta W = (alpha / r) B A (Hu et al. 2021, arXiv:2106.09685)."""

    r: int = Field(default=8, ge=1)
    alpha: float = Field(default=128, gt=0)
    dropout: float = Field(default=0.05, ge=0, lt=1)
    target_modules: Literal["all-linear"] | tuple[str, ...] = "all-linear"
    """All linear layers but the output head, or the endings of module names."""
    rslora: bool = False
    """Scale by alpha / sqrt(r) instead (Kalajdzievski 2023, arXiv:2312.03732)."""


class Training(Frozen):
    """One training's parameters."""

    epochs: float = Field(default=3, gt=0)
    batch_size: int = Field(default=2, ge=1)
    """Examples per step on the device."""
    gradient_accumulation: int = Field(default=1, ge=1)
    """Batches added up before each update."""
    learning_rate: float = Field(default=1e-5, gt=0)
    scheduler: Literal["cosine", "linear", "constant"] = "cosine"
    warmup_ratio: float = Field(default=0, ge=0, lt=1)
    """The share of all steps over which the learning rate rises from 0."""
    optimizer: Literal["adam"] = "adam"
    weight_decay: float = Field(default=0, ge=0)
    max_grad_norm: float = Field(default=1.0, gt=0)
    max_length: int = Field(default=1024, ge=8)
    """Tokens of prompt and answer together; longer examples are cut at the end."""
    gradient_checkpointing: bool = False
    beta: float = Field(default=0.3, gt=0)
    """DPO only: the strength of the pull towards the reference model."""
    learn: Learn = "last"
    """SFT only: the last answer of a conversation, or every answer of the assistant, each with
    its end. What the data itself marks as learned or not goes before both."""


def _overrides(model: type[Frozen]) -> Any:
    """A model with the fields and bounds of `model`, all optional and None where not given."""
    fields: dict[str, Any] = {
        key: (Annotated[(info.annotation, *info.metadata, key)] | None, None)
        for key, info in model.model_fields.items()
    }
    return create_model(f"Some{model.__name__}", __base__=Frozen, **fields)


class TrainingOverrides(_overrides(Training)):  # type: ignore[misc]
    """Training parameters that replace the study's."""


class LoraOverrides(_overrides(Lora)):  # type: ignore[misc]
    """Adapter parameters that replace the study's."""
