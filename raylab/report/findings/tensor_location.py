"""Where a tensor is: its layer, and which part of a layer it is, whatever its architecture.

Model: a name's first number is its layer; its last part is a row of KINDS, which calls
counterparts by one name: Llama's q_proj and a fused query_key_value alike belong to attention.
Invariant: a name without a row keeps its own last part as its kind; nothing is left out.
"""

from __future__ import annotations

KINDS: dict[str, str] = {
    "q_proj": "q",
    "k_proj": "k",
    "v_proj": "v",
    "o_proj": "o",
    "gate_proj": "gate",
    "up_proj": "up",
    "down_proj": "down",
    # One matrix for several parts: GPT-NeoX, Falcon, GPT-2, Phi-3.
    "query_key_value": "qkv",
    "qkv_proj": "qkv",
    "c_attn": "qkv",
    "gate_up_proj": "gate+up",
    # The counterparts of o, up and down: GPT-NeoX, GPT-2, Phi.
    "attention.dense": "o",
    "self_attn.dense": "o",
    "self_attention.dense": "o",
    "attn.c_proj": "o",
    "out_proj": "o",
    "dense_h_to_4h": "up",
    "c_fc": "up",
    "fc1": "up",
    "dense_4h_to_h": "down",
    "mlp.c_proj": "down",
    "fc2": "down",
    "lm_head": "head",
    "embed_out": "head",
    "embed_tokens": "embedding",
    "embed_in": "embedding",
    "wte": "embedding",
}
ORDER = ("q", "k", "v", "qkv", "o", "gate", "up", "gate+up", "down", "embedding", "head")


def place_of(tensor: str) -> tuple[int | None, str]:
    """(layer, kind) of a tensor's name; no layer for an embedding or a head."""
    parts = tensor.removesuffix(".weight").removesuffix(".bias").split(".")
    layer = next((int(part) for part in parts if part.isdigit()), None)
    last, pair = parts[-1], ".".join(parts[-2:])
    return layer, KINDS.get(pair, KINDS.get(last, last))


def kind_order(kind: str) -> tuple[int, str]:
    """The order of kinds: as data flow through a layer, the others after them by name."""
    return (ORDER.index(kind) if kind in ORDER else len(ORDER), kind)
