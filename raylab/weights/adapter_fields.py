"""What each field of a PEFT LoRA adapter's config does here, and why.

Model: FIELDS has a row for every field of `peft.LoraConfig` 0.21.2, INITIALISATIONS one for every
value of its field `init_lora_weights`. docs/models.md shows both tables.
Invariant: a field without a row, of a later version of PEFT, is refused unless it is off. A field
that is refused names its own reason. Tests hold the tables against the installed PEFT and docs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

Handling = Literal["read", "no effect", "refused"]


@dataclass(frozen=True)
class Row:
    """read: it takes part in the delta. no effect: the delta is the same with and without it."""

    handling: Handling
    why: str


def _read(why: str) -> Row:
    return Row("read", why)


def _no_effect(why: str) -> Row:
    return Row("no effect", why)


def _refused(why: str) -> Row:
    return Row("refused", why)


_HOW_IT_STARTED = "it says how A and B started; the file has what became of them"
_WHICH_LAYERS = "it chose the layers; the file has a tensor for each of them"

FIELDS: dict[str, Row] = {
    "alora_invocation_tokens": _refused(
        "aLoRA changes only the tokens after its invocation, so no change of the weights equals it"
    ),
    "alpha_pattern": _read("alpha of the modules that a pattern matches"),
    "arrow_config": _refused(
        "Arrow mixes several adapters by the input, so no change of the weights equals it"
    ),
    "auto_mapping": _no_effect("it names the class of the base model"),
    "base_model_name_or_path": _no_effect("the base model is the one that you name"),
    "bias": _no_effect("a trained bias is saved whole, and is read as it is saved"),
    "corda_config": _no_effect(_HOW_IT_STARTED),
    "ensure_weight_tying": _read(
        "a change of a tied weight holds for both of its names; without effect on other layers"
    ),
    "eva_config": _no_effect(_HOW_IT_STARTED),
    "exclude_modules": _no_effect(_WHICH_LAYERS),
    "fan_in_fan_out": _read("the layer keeps its weight transposed"),
    "inference_mode": _no_effect("it says whether training goes on"),
    "init_lora_weights": _read("by its value, see the next table"),
    "kasa_config": _refused(
        "KaSA takes the smallest singular components of the base model away and adds B diag(d) A; "
        "diag(d) is not read"
    ),
    "layer_replication": _refused(
        "the adapter is of a model in which layers of the base model are repeated, so that one "
        "weight has several deltas"
    ),
    "layers_pattern": _no_effect(_WHICH_LAYERS),
    "layers_to_transform": _no_effect(_WHICH_LAYERS),
    "loftq_config": _no_effect(_HOW_IT_STARTED),
    "lora_alpha": _read("the scale is alpha / r"),
    "lora_bias": _read("B has a bias, which is added to the layer's"),
    "lora_dropout": _no_effect("it acts in training alone"),
    "lora_ga_config": _no_effect(_HOW_IT_STARTED),
    "megatron_config": _refused(
        "the layers are Megatron's parallel ones, of which a file may hold a part"
    ),
    "megatron_core": _no_effect("it names a Python module, used with megatron_config alone"),
    "modules_to_save": _no_effect("such a module is saved whole, and is read as it is saved"),
    "monteclora_config": _no_effect(
        "it draws noise in training alone; the sampler's tensors are left out"
    ),
    "peft_type": _read("LORA is read; each other type is refused by its name"),
    "peft_version": _no_effect("fields of later versions are refused by their names"),
    "qalora_group_size": _read("used with use_qalora alone"),
    "r": _read("the rank"),
    "rank_pattern": _read("the rank of the modules that a pattern matches"),
    "revision": _no_effect("the base model is the one that you name"),
    "runtime_config": _no_effect("PEFT never saves it"),
    "target_modules": _no_effect(_WHICH_LAYERS),
    "target_parameters": _read(
        "A and B of a parameter: the base model says which one it is, and how experts lie in it"
    ),
    "task_type": _no_effect("it names the class of the base model"),
    "trainable_token_indices": _read("rows of an embedding that were trained alone"),
    "use_bdlora": _refused("A or B is saved as the blocks of a block-diagonal matrix"),
    "use_dora": _read("the norm of each row of the weight is trained apart"),
    "use_qalora": _read(
        "PEFT uses it on GPTQ layers alone: a plain LoRA on others; on GPTQ, where A has the "
        "columns of pooled inputs, it is refused"
    ),
    "use_rslora": _read("the scale is alpha / sqrt(r)"),
    "velora_config": _no_effect("it changes the backward pass alone; its running mean is left out"),
}

_PLAIN = _no_effect("the base model stays as it is")
_UNTIL_CONVERTED = (
    "; PEFT converts such an adapter where save_pretrained has path_initial_model_for_weight_"
    "conversion"
)

INITIALISATIONS: dict[str, Row] = {
    "true, false, null": _PLAIN,
    "gaussian": _PLAIN,
    "eva": _PLAIN,
    "orthogonal": _PLAIN,
    "mica": _PLAIN,
    "pissa": _read(
        "PEFT takes the largest singular components B0 A0 out of the base model when it loads the "
        "adapter: the delta is s (B A - B0 A0), and needs the base model"
    ),
    "olora": _read("as pissa, with the first columns of a QR decomposition"),
    "pissa_niter_N": _refused(
        "its decomposition is drawn at random, and is another one at every load" + _UNTIL_CONVERTED
    ),
    "corda": _refused(
        "what it took out of the base model depends on a covariance that the adapter does not hold"
        + _UNTIL_CONVERTED
    ),
    "loftq": _refused("it belongs to a base model that LoftQ rounded, which is not at hand"),
    "lora_ga": _refused(
        "what it took out of the base model depends on gradients that the adapter does not hold"
        + _UNTIL_CONVERTED
    ),
}
DECOMPOSITIONS = ("pissa", "olora")
"""Initialisations that take a part of the base model away, which can be computed again."""


def initialisation(value: Any) -> str:
    """The row of INITIALISATIONS of a value of init_lora_weights; the value itself without one."""
    if value is None or isinstance(value, bool):
        return "true, false, null"
    name = str(value).lower()
    return "pissa_niter_N" if name.startswith("pissa_niter_") else name


def why_refused(name: str, value: Any) -> str | None:
    """Why a config with this field is not read; None where it is, or the field is off."""
    if name == "init_lora_weights":
        found = INITIALISATIONS.get(initialisation(value))
        if found and found.handling != "refused":
            return None
        return f"{name}: {value} ({found.why if found else 'its meaning is not known'})"
    row = FIELDS.get(name)
    if not value or (row and row.handling != "refused"):
        return None
    return f"{name} ({row.why if row else 'no field of PEFT 0.21.2, so its meaning is not known'})"
