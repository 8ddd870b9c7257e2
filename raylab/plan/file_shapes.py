"""The shape of a base model of any architecture, from the headers of its files.

Model: every tensor of the files is counted. A matrix that is no embedding, head, router or expert
is a linear layer, which 4 bits hold and adapters target. Experts of a mixture are one parameter in
memory, whatever the files have, so they stay in full precision. Numbers that no tensor has (heads,
positions) come from config.json, from its `text_config` where the model has several parts, or are
the defaults of the config's class in transformers.
Invariant: entries are those of the files, a tied head once. A config that lacks a value, and a
quantised model, give None, never a guess. The activations are those of a plain decoder of these
sizes: an estimate.
"""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping

from raylab.plan.model_shapes import Config, Counted, Family, Linear, Shape, config_of, shape_of
from raylab.spec.architectures import default_of, ties_embeddings
from raylab.spec.models import ResolvedModel
from raylab.spec.quantized import quantization_of
from raylab.spec.tied import find_ties
from raylab.spec.weight_files import shapes_of

Tensors = Mapping[str, tuple[int, ...]]

_TEXT = ("text_config", "llm_config", "language_config")
_NOT_LINEAR = ("embed", "lm_head", "wte", "wpe", ".experts.", "router", "norm", "codebook")
_OTHER_PARTS = ("vision", "visual", "image", "audio", "multi_modal", "projector", "mtp.")
_BUFFER = re.compile(r"(rotary_emb\.inv_freq|masked_bias)$")
_LAYER = re.compile(r"^(.*?)\.?\b(\d+)\.(.+)\.weight$")
_GATED = ("gate_proj", "gate_up_proj", "w3", "packed_input_proj")
_PACKED = ("qkv_proj", "query_key_value", "c_attn", "Wqkv", "in_proj_qkv")
_NAMES: Mapping[str, tuple[str, ...]] = {
    "hidden": ("hidden_size", "n_embd", "d_model"),
    "layers": ("num_hidden_layers", "n_layer", "n_layers"),
    "heads": ("num_attention_heads", "n_head", "n_heads"),
    "kv_heads": ("num_key_value_heads", "num_kv_heads"),
    "head_size": ("head_dim",),
    "intermediate": ("intermediate_size", "ffn_dim", "n_inner", "ffn_hidden_size"),
    "vocabulary": ("vocab_size",),
    "positions": ("max_position_embeddings", "n_positions", "max_seq_len", "seq_length"),
    "experts": ("num_local_experts", "num_experts", "n_routed_experts", "moe_num_experts"),
    "chosen": ("num_experts_per_tok", "num_experts_per_token", "moe_top_k", "experts_per_token"),
    "expert": ("moe_intermediate_size", "expert_intermediate_size"),
    "shared": ("shared_expert_intermediate_size", "shared_intermediate_size"),
}
"""What a number is called in the configs of different architectures."""
_NO_LIMIT = 1 << 17
"""Positions of a model that states none, as ALiBi has it."""


def shape_of_base(base: ResolvedModel) -> Shape | None:
    """The shape of a base model: of a known type by its config, of others by its files on this
    machine; None where that does not suffice."""
    config = config_of(base)
    if config is None:
        return None
    known = shape_of(config)
    if known is not None or base.directory is None:
        return known
    return shape_of_files(config, shapes_of(base.directory))


def shape_of_files(config: Config, tensors: Tensors) -> Shape | None:
    """The shape of the model with these tensors; None where its config lacks a value."""
    text = _text_config(config)
    numbers = {key: _number(text, names) for key, names in _NAMES.items()}
    if quantization_of(config) or not tensors:
        return None
    required = ("hidden", "layers", "heads", "vocabulary")
    if any(numbers[key] is None for key in required):
        return None
    entries = _parameters(config, tensors)
    experts = numbers["experts"] or 0
    linears = {
        name: Linear(_module(name), shape[0], shape[1])
        for name, shape in entries.items()
        if _is_linear(name, shape, experts)
    }
    layer = _decoder_layer(linears, numbers["layers"] or 0)
    if not layer:
        return None
    hidden, heads = numbers["hidden"] or 0, numbers["heads"] or 0
    others = (math.prod(shape) for name, shape in entries.items() if name not in linears)
    return Shape(
        family=_family(entries, layer, text, is_mixture=experts > 0),
        hidden=hidden,
        intermediate=_intermediate(numbers),
        layers=numbers["layers"] or 0,
        heads=heads,
        kv_heads=numbers["kv_heads"] or heads,
        head_size=numbers["head_size"] or hidden // heads,
        vocabulary=numbers["vocabulary"] or 0,
        tied=ties_embeddings(config),
        positions=numbers["positions"] or _NO_LIMIT,
        linears=tuple(layer),
        counted=Counted(
            linears=tuple(linears.values()),
            others=sum(others),
            idle=_idle(entries, experts, numbers["chosen"] or 0),
        ),
    )


def _text_config(config: Config) -> Config:
    """The config of the language model; what it does not say is what the whole model says."""
    nested = [config[key] for key in _TEXT if isinstance(config.get(key), dict)]
    return {**config, **nested[0]} if nested else config


def _number(text: Config, names: Iterable[str]) -> int | None:
    """The first of the fields that the config has, else that its class has a default for."""
    names = tuple(names)
    given = [text[name] for name in names if name in text]
    defaults = (default_of(text.get("model_type"), name) for name in names)
    for value in (*given, *defaults):
        if isinstance(value, int) and not isinstance(value, bool) and value > 0:
            return value
        if value is not None or given:
            return None
    return None


def _parameters(config: Config, tensors: Tensors) -> dict[str, tuple[int, ...]]:
    """The tensors that are parameters, each once."""
    twice = {name for tie in find_ties(tensors, config) for name in tie.names}
    return {
        name: shape
        for name, shape in tensors.items()
        if name not in twice and not _BUFFER.search(name) and not _is_mask(name, shape)
    }


def _is_mask(name: str, shape: tuple[int, ...]) -> bool:
    """Whether it is a causal mask, which older versions of transformers stored."""
    return name.endswith((".attn.bias", ".attention.bias")) and len(shape) == 4


def _is_linear(name: str, shape: tuple[int, ...], experts: int) -> bool:
    if len(shape) != 2 or not name.endswith(".weight"):
        return False
    is_router = bool(experts) and shape[0] == experts
    return not is_router and not any(word in name for word in _NOT_LINEAR)


def _module(name: str) -> str:
    """The name of a linear layer inside its decoder layer."""
    match = _LAYER.match(name)
    return match.group(3) if match else name.removesuffix(".weight")


def _decoder_layer(linears: Mapping[str, Linear], layers: int) -> list[Linear]:
    """The linear layers of the largest layer of the language model."""
    found: dict[str, dict[str, list[Linear]]] = defaultdict(lambda: defaultdict(list))
    for name, linear in linears.items():
        match = _LAYER.match(name)
        if match and not any(word in name for word in _OTHER_PARTS):
            found[match.group(1)][match.group(2)].append(linear)
    fitting = [numbered for numbered in found.values() if len(numbered) == layers]
    every = [layer for numbered in fitting or found.values() for layer in numbered.values()]
    return max(every, key=lambda layer: sum(linear.numel for linear in layer), default=[])


def _family(entries: Tensors, layer: Iterable[Linear], text: Config, *, is_mixture: bool) -> Family:
    """The common properties, as the names of the tensors tell them."""
    modules = [linear.name.rpartition(".")[2] for linear in layer]
    norms = [name for name in entries if "norm" in name.lower() or ".ln_" in name]
    softcaps = bool(text.get("attn_logit_softcapping"))
    return Family(
        linears=lambda _: iter(()),
        norms=4 if any("pre_feedforward" in name for name in norms) else 2,
        norm_weights=0,
        final_norm_weights=0,
        is_layer_norm=any(name.endswith(".bias") for name in norms),
        gated=is_mixture or any(name in modules for name in _GATED),
        packed_heads=any(name in modules for name in _PACKED),
        eager=softcaps,
        softcaps=softcaps,
    )


def _intermediate(numbers: Mapping[str, int | None]) -> int:
    """The width of the MLP that a token goes through: of a mixture, that of the chosen experts."""
    width = numbers["intermediate"] or 4 * (numbers["hidden"] or 0)
    if not numbers["experts"] or not numbers["chosen"]:
        return width
    return numbers["chosen"] * (numbers["expert"] or width) + (numbers["shared"] or 0)


def _idle(entries: Tensors, experts: int, chosen: int) -> int:
    """The entries that a token of text does not go through: other experts, other parts."""
    others = [name for name in entries if any(word in name for word in _OTHER_PARTS)]
    routed = [
        n for n, shape in entries.items() if n not in others and _is_expert(n, shape, experts)
    ]
    share = 1 - chosen / experts if 0 < chosen < experts else 0.0
    size = {name: math.prod(entries[name]) for name in (*others, *routed)}
    return sum(size[n] for n in others) + int(share * sum(size[n] for n in routed))


def _is_expert(name: str, shape: tuple[int, ...], experts: int) -> bool:
    return ".experts." in name or (bool(experts) and len(shape) == 3 and shape[0] == experts)
