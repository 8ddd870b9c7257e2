"""The memory of a pass through a model beside its weights: activations, scores, logits.

Model: a training step saves, for each decoder layer, the activations that its backward pass needs.
Beside them are the temporary tensors of one layer at a time, and the head, which turns hidden
states into logits tile by tile. With gradient checkpointing only the inputs of layers are saved,
and one layer at a time is computed again. The saved tensors follow the code of transformers 5,
peft 0.21 (whose adapter applies its own dropout to the input of each linear layer, so that every
linear layer saves a copy) and trl 1.16 (whose head never holds all logits). KERNELS has a row for
each kind of device.
Assumptions: every sequence has `length` tokens, and attention has a mask, as in every batch with
padding. Without dropout in the adapter the estimate is an upper bound.
Invariant: pure arithmetic on shapes. With the row of the CPU, training steps and scoring passes are
within 15 % of the allocations that torch's profiler counts; answers are within a third. The row of
CUDA is not checked on a GPU.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from raylab.plan.model_shapes import Shape

FLOAT32 = 4
TILE_TOKENS = 4096
"""Positions that the head of trl 1.16 computes at once."""


class Kernels(NamedTuple):
    """What one kind of device allocates: bytes for each number."""

    dropout_mask: int
    """The mask that dropout saves: a float, or one byte if it is fused."""
    widens_adapter_input: bool
    """peft 0.21 asks only for CUDA's autocast; on a CPU it casts to float32."""
    layer_norm_in_float32: bool
    """Autocast on CUDA computes layer norms in float32, and so the layers that follow."""
    tile_forward: int
    tile_backward: int
    """float32 copies of a tile of logits; none if Triton computes in place."""
    tile: int = 32768
    """Entries of the vocabulary that the head of trl 1.16 computes at once."""


KERNELS = {
    "cpu": Kernels(4, True, False, 13, 29),
    "cuda": Kernels(1, False, True, 0, 0),
}


@dataclass(frozen=True)
class Pass:
    """A batch of `sequences` of `length` tokens through a model, with an adapter of rank `r`."""

    shape: Shape
    sequences: int
    length: int
    width: int
    """Bytes of a number in the compute dtype."""
    r: int = 8
    kernels: Kernels = field(default=KERNELS["cuda"])

    @property
    def tokens(self) -> int:
        """The tokens of all sequences."""
        return self.sequences * self.length

    @property
    def scores(self) -> int:
        """Attention scores of one layer, over all heads."""
        return self.sequences * self.shape.heads * self.length**2


def training_bytes(work: Pass, *, checkpointing: bool) -> int:
    """The peak of one training step without weights, gradients and optimizer, in bytes."""
    shape = work.shape
    hidden = work.tokens * shape.hidden
    attention, mlp = _saved_by_attention(work), _saved_by_mlp(work)
    layer, temporary = attention + mlp, _layer_temporaries(work, mlp)
    copies = work.kernels.tile_backward
    if copies and shape.family.softcaps:
        copies += FLOAT32
    head = 2 * (FLOAT32 + work.width) * hidden + _logits_tile(work, copies)
    if checkpointing:
        return shape.layers * hidden * work.width + max(head, layer + temporary)
    return shape.layers * layer + max(head, temporary)


def scoring_bytes(work: Pass, *, adapted: bool) -> int:
    """The peak of a pass without gradients, in bytes: DPO's reference or the held-out loss.

    adapted: whether the adapter is on; it is off for the reference.
    """
    shape = work.shape
    hidden = work.tokens * shape.hidden * work.width
    copies = 4 if adapted else 3 if shape.family.gated else 2
    inner = copies * work.tokens * shape.intermediate * work.width
    attention = _attention_mask(work)
    if shape.family.eager:
        attention += work.scores * (2 * FLOAT32 + work.width)
        attention += 3 * work.tokens * shape.heads * shape.head_size * work.width
    head = 2 * hidden + _logits_tile(work, work.kernels.tile_forward)
    return max(5 * hidden + max(inner, attention) + _dequantised_weight(work), head)


def answering_bytes(work: Pass, new_tokens: int) -> int:
    """The peak of answering prompts of `length` tokens, with the key-value cache, in bytes."""
    shape = work.shape
    sizes = shape.kv_heads * shape.head_size * work.width
    kept = 2 * shape.layers * work.sequences * (work.length + new_tokens) * sizes
    logits = work.sequences * shape.vocabulary * (FLOAT32 + work.width)
    copies = 4 if shape.family.gated else 2
    inner = work.tokens * shape.intermediate * (copies * work.width + 2 * FLOAT32)
    attention = work.scores * (2 * FLOAT32 + work.width) if shape.family.eager else 0
    attention += 3 * work.tokens * shape.heads * shape.head_size * work.width
    hidden = 5 * work.tokens * shape.hidden * work.width
    return kept + max(hidden + max(inner, attention) + _dequantised_weight(work), logits)


def _saved_by_attention(work: Pass) -> int:
    """What the attention of one layer saves, with half of the layer's norms."""
    shape, family = work.shape, work.shape.family
    heads = work.tokens * shape.heads * shape.head_size * work.width
    if family.eager:
        # Softmax saves float32, and its product with the values saves the compute dtype.
        parts = FLOAT32 + (work.width if work.width < FLOAT32 else 0)
        parts += work.width if family.softcaps else 0
        kept = 3 * heads + work.scores * parts
    else:
        # If one product makes queries, keys and values, the saved values hold all three.
        kept = (6 if family.packed_heads else 4) * heads + _attention_mask(work)
        kept += FLOAT32 * work.sequences * shape.heads * work.length
    return kept + _saved_by_norms(work) // 2 + _saved_by_adapters(work, mlp=False)


def _saved_by_mlp(work: Pass) -> int:
    """What the MLP of one layer saves, with the other norms."""
    shape = work.shape
    inner = work.tokens * shape.intermediate * _width_after_norm(work)
    kept = (3 if shape.family.gated else 1) * inner
    return (
        kept
        + _saved_by_norms(work)
        - _saved_by_norms(work) // 2
        + _saved_by_adapters(work, mlp=True)
    )


def _saved_by_adapters(work: Pass, *, mlp: bool) -> int:
    """What the adapters save: the input after dropout, its mask, the output of A, cast factors."""
    each = factors = 0
    for linear in work.shape.linears:
        if linear.name.startswith("mlp.") == mlp:
            each += linear.inputs * (work.width + work.kernels.dropout_mask) + work.r * work.width
            factors += work.r * (linear.inputs + linear.outputs)
    return work.tokens * each + (factors * work.width if work.width < FLOAT32 else 0)


def _saved_by_norms(work: Pass) -> int:
    family = work.shape.family
    hidden = work.tokens * work.shape.hidden
    if not family.is_layer_norm or (work.kernels.layer_norm_in_float32 and work.width < FLOAT32):
        return family.norms * hidden * FLOAT32
    return (1 if family.parallel else family.norms) * hidden * work.width


def _width_after_norm(work: Pass) -> int:
    """Bytes of a number in the outputs of the MLP's first linear layers."""
    widened = work.shape.family.is_layer_norm and work.kernels.layer_norm_in_float32
    return FLOAT32 if widened else work.width


def _layer_temporaries(work: Pass, saved_by_mlp: int) -> int:
    """The temporary tensors of one layer, beside the saved ones."""
    shape = work.shape
    inner = 3 * work.width
    if work.kernels.widens_adapter_input and work.width < FLOAT32:
        inner = max(inner, 2 * FLOAT32)
    mlp = work.tokens * shape.intermediate * inner
    # The tensors that the MLP saved are freed before the backward pass of attention.
    scores = work.scores * (2 * FLOAT32 + work.width) - saved_by_mlp if shape.family.eager else 0
    return (
        max(mlp, scores) + 4 * work.tokens * shape.hidden * work.width + _dequantised_weight(work)
    )


def _dequantised_weight(work: Pass) -> int:
    """The largest weight in the compute dtype."""
    return max(linear.numel for linear in work.shape.linears) * work.width


def _attention_mask(work: Pass) -> int:
    return work.sequences * work.length**2 * work.width


def _logits_tile(work: Pass, copies: int) -> int:
    tokens = min(work.tokens, TILE_TOKENS)
    entries = min(work.shape.vocabulary, work.kernels.tile)
    return tokens * (work.kernels.tile * work.width + entries * copies)
