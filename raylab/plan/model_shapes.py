"""The shapes of a base model's layers, from its config.

Model: a config is a mapping as in `config.json`: that of the model if it is on this machine,
otherwise the published one in `catalogue.json`, by hub id. FAMILIES has a row for each model type:
the linear layers of one decoder layer, and other properties that matter for memory. A model with
custom code is identified by its class.
Invariant: nothing is downloaded, and transformers is not loaded. A model type without a row is
unknown (None), never guessed.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from raylab.spec.models import ResolvedModel, json_of

Config = Mapping[str, Any]

_FILE = Path(__file__).with_name("catalogue.json")


class Linear(NamedTuple):
    """One linear layer, whose weight is stored with shape (outputs, inputs)."""

    name: str
    outputs: int
    inputs: int
    bias: bool = False

    @property
    def numel(self) -> int:
        """The number of entries of its weight."""
        return self.outputs * self.inputs


@dataclass(frozen=True)
class Family:
    """The common properties of the models of one type.

    norms: the number of norms of a layer. norm_weights: the weights of these norms, and the biases
    of layer norms, in units of the hidden size. eager: attention holds its scores, because no fused
    kernel can compute it.
    """

    linears: Callable[[Config], Iterator[Linear]]
    norms: int
    norm_weights: int
    final_norm_weights: int
    is_layer_norm: bool = False
    parallel: bool = False
    gated: bool = True
    packed_heads: bool = False
    eager: bool = False
    softcaps: bool = False
    tied: bool = False


@dataclass(frozen=True)
class Counted:
    """What the headers of a model's files say.

    linears: every linear layer but the head. others: the entries of all other parameters. idle:
    the entries that a token of text does not go through.
    """

    linears: tuple[Linear, ...]
    others: int
    idle: int = 0


@dataclass(frozen=True)
class Shape:
    """The numbers of one model that determine its memory.

    linears: those of one decoder layer. counted: where its files were counted.
    """

    family: Family
    hidden: int
    intermediate: int
    layers: int
    heads: int
    kv_heads: int
    head_size: int
    vocabulary: int
    tied: bool
    positions: int
    linears: tuple[Linear, ...]
    counted: Counted | None = None

    @property
    def every_linear(self) -> list[tuple[Linear, int]]:
        """The linear layers of the model except the head, and how often each is there."""
        if self.counted:
            return [(linear, 1) for linear in self.counted.linears]
        return [(linear, self.layers) for linear in self.linears]

    @property
    def linear_numel(self) -> int:
        """The entries of all linear layers except the head; these are quantised."""
        return sum(times * linear.numel for linear, times in self.every_linear)

    @property
    def active(self) -> int:
        """The entries that a token goes through."""
        return self.parameters - (self.counted.idle if self.counted else 0)

    @property
    def other_numel(self) -> int:
        """The entries of the embedding, the head, norms, biases, and experts."""
        if self.counted:
            return self.counted.others
        tables = self.vocabulary * self.hidden * (1 if self.tied else 2)
        biases = self.layers * sum(linear.outputs for linear in self.linears if linear.bias)
        norms = self.layers * self.family.norm_weights + self.family.final_norm_weights
        return tables + biases + norms * self.hidden

    @cached_property
    def parameters(self) -> int:
        """All entries; those of a tied head count once."""
        return self.linear_numel + self.other_numel

    def adapter_numel(self, r: int, targets: tuple[str, ...] | None = None) -> int:
        """The entries of an adapter of rank `r` on all linear layers, or on those of `targets`."""
        ends = tuple(f".{target}" for target in targets or ())
        return r * sum(
            times * (linear.outputs + linear.inputs)
            for linear, times in self.every_linear
            if targets is None or f".{linear.name}".endswith(ends)
        )


def _grouped(config: Config, *, biased: bool = False) -> Iterator[Linear]:
    """Separate layers for queries, keys, values, output, gate, up and down."""
    hidden, inner = config["hidden_size"], config["intermediate_size"]
    head = _head_size(config)
    queries = config["num_attention_heads"] * head
    keys = _kv_heads(config) * head
    all_biased = bool(config.get("attention_bias", False))
    yield Linear("self_attn.q_proj", queries, hidden, biased or all_biased)
    yield Linear("self_attn.k_proj", keys, hidden, biased or all_biased)
    yield Linear("self_attn.v_proj", keys, hidden, biased or all_biased)
    yield Linear("self_attn.o_proj", hidden, queries, all_biased)
    for name in ("gate_proj", "up_proj"):
        yield Linear(f"mlp.{name}", inner, hidden, bool(config.get("mlp_bias", False)))
    yield Linear("mlp.down_proj", hidden, inner, bool(config.get("mlp_bias", False)))


def _gpt_neox(config: Config) -> Iterator[Linear]:
    hidden, inner = config["hidden_size"], config["intermediate_size"]
    biased = bool(config.get("attention_bias", True))
    yield Linear("attention.query_key_value", 3 * hidden, hidden, biased)
    yield Linear("attention.dense", hidden, hidden, biased)
    yield Linear("mlp.dense_h_to_4h", inner, hidden, True)
    yield Linear("mlp.dense_4h_to_h", hidden, inner, True)


def _stablelm_alpha(config: Config) -> Iterator[Linear]:
    hidden, inner = config["hidden_size"], _intermediate(config)
    yield Linear("attention.query_key_value", 3 * hidden, hidden)
    yield Linear("attention.dense", hidden, hidden)
    yield Linear("mlp.packed_input_proj", 2 * inner, hidden)
    yield Linear("mlp.out_proj", hidden, inner)


_LLAMA = Family(_grouped, norms=2, norm_weights=2, final_norm_weights=1)
FAMILIES: dict[str, Family] = {
    "llama": _LLAMA,
    "mistral": _LLAMA,
    "qwen2": Family(
        lambda config: _grouped(config, biased=True), norms=2, norm_weights=2, final_norm_weights=1
    ),
    "gemma2": Family(
        _grouped,
        norms=4,
        norm_weights=4,
        final_norm_weights=1,
        eager=True,
        softcaps=True,
        tied=True,
    ),
    "gpt_neox": Family(
        _gpt_neox,
        norms=2,
        norm_weights=4,
        final_norm_weights=2,
        is_layer_norm=True,
        parallel=True,
        gated=False,
        packed_heads=True,
    ),
    # Custom code. The first of a layer's two norms has no weights.
    "JapaneseStableLMAlphaForCausalLM": Family(
        _stablelm_alpha,
        norms=2,
        norm_weights=2,
        final_norm_weights=2,
        is_layer_norm=True,
        parallel=True,
        packed_heads=True,
        eager=True,
    ),
}


_REQUIRED_KEYS = (
    "hidden_size",
    "num_hidden_layers",
    "num_attention_heads",
    "vocab_size",
    "max_position_embeddings",
)


def shape_of(config: Config) -> Shape | None:
    """The shape of a model; None if FAMILIES lacks its type, or the config lacks a value."""
    names = (config.get("model_type"), *(config.get("architectures") or ()))
    family = next((FAMILIES[name] for name in names if name in FAMILIES), None)
    if family is None or any(key not in config for key in _REQUIRED_KEYS):
        return None
    tied = config.get("tie_word_embeddings")
    return Shape(
        family=family,
        hidden=config["hidden_size"],
        intermediate=_intermediate(config),
        layers=config["num_hidden_layers"],
        heads=config["num_attention_heads"],
        kv_heads=_kv_heads(config),
        head_size=_head_size(config),
        vocabulary=config["vocab_size"],
        tied=family.tied if tied is None else bool(tied),
        positions=config["max_position_embeddings"],
        linears=tuple(family.linears(config)),
    )


def _intermediate(config: Config) -> int:
    """The given size. StableLM-alpha computes it: 8/3 of the hidden size, in steps of 256."""
    given = config.get("intermediate_size")
    if given is not None and "model_type" in config and config["model_type"] in FAMILIES:
        return int(given)
    return -(-(8 * config["hidden_size"] // 3) // 256) * 256


def _kv_heads(config: Config) -> int:
    return int(config.get("num_key_value_heads") or config["num_attention_heads"])


def _head_size(config: Config) -> int:
    return int(config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"])


@lru_cache(maxsize=1)
def published() -> Mapping[str, Config]:
    """The published configs by hub id, with `parameters` and, if there are doubts, `unverified`."""
    found: dict[str, Config] = json.loads(_FILE.read_text(encoding="utf-8"))
    return found


def config_of(base: ResolvedModel) -> Config | None:
    """The config of a base model: its own if it is on this machine, or the published one.

    Raises ModelError.
    """
    own = json_of(base.directory / "config.json") if base.directory else None
    return published().get(base.source) if own is None else own


def is_mixture(config: Config) -> bool:
    """Whether a config counts several experts, at any depth: a mixture of experts."""
    for key, value in config.items():
        if isinstance(value, Mapping) and is_mixture(value):
            return True
        counts = "expert" in key and isinstance(value, int) and not isinstance(value, bool)
        if counts and value > 1:
            return True
    return False
