"""What a pass through a model holds beside its weights: activations, attention scores, logits.

Model: a training step keeps, for each decoder layer, what its backward pass will ask for; beside
that, one layer at a time is worked on, and the head turns hidden states into logits by tiles. With
gradient checkpointing only the inputs of layers are kept, and one layer at a time is done again.
What is kept follows the code of transformers 5, peft 0.21 (its adapter drops out each linear
layer's input by itself, so that every linear layer keeps a copy) and trl 1.16 (a head that never
holds all logits). What devices do differently is a row of KERNELS.
Assumed is that every sequence is as long as `length`, and that attention is given a mask, as in
every batch with padding. Without dropout in the adapter the estimate is an upper bound.
Invariant: pure arithmetic on shapes; with the CPU's row, training steps and passes that score are
within 15 % of allocations counted by torch's profiler; answers are a rougher estimate, within a
third. No GPU has checked the row of CUDA.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from raylab.plan.model_shapes import Shape

FLOAT32 = 4
TILE_TOKENS = 4096
"""How many positions trl 1.16's head works on at once."""


class Kernels(NamedTuple):
    """How one kind of device does what is done: bytes for each number concerned."""

    dropout_mask: int
    """What dropout keeps: a float, or one byte where it is fused."""
    widens_adapter_input: bool
    """peft 0.21 looks whether CUDA's autocast is on, and on a CPU casts to float32 by itself."""
    layer_norm_in_float32: bool
    """Autocast on CUDA does, and so what follows is float32 as well."""
    tile_forward: int
    tile_backward: int
    """float32 copies of a tile of logits; none where Triton works in place."""
    tile: int = 32768
    """How many entries of the vocabulary trl 1.16's head works on at once."""


KERNELS = {
    "cpu": Kernels(4, True, False, 13, 29),
    "cuda": Kernels(1, False, True, 0, 0),
}


@dataclass(frozen=True)
class Pass:
    """So many sequences of one length through a model, with an adapter of rank `r`."""

    shape: Shape
    sequences: int
    length: int
    width: int
    """Bytes of one number in the compute dtype."""
    r: int = 8
    kernels: Kernels = field(default=KERNELS["cuda"])

    @property
    def tokens(self) -> int:
        """Positions in all sequences."""
        return self.sequences * self.length

    @property
    def scores(self) -> int:
        """Attention scores of one layer, over all heads."""
        return self.sequences * self.shape.heads * self.length**2


def training_bytes(work: Pass, *, checkpointing: bool) -> int:
    """The peak of one training step, beside weights, gradients and the optimizer."""
    shape = work.shape
    hidden = work.tokens * shape.hidden
    attention, rest = _attention_kept(work), _rest_kept(work)
    layer, working = attention + rest, _working(work, rest)
    copies = work.kernels.tile_backward
    if copies and shape.family.softcaps:
        copies += FLOAT32
    head = 2 * (FLOAT32 + work.width) * hidden + _tile(work, copies)
    if checkpointing:
        return shape.layers * hidden * work.width + max(head, layer + working)
    return shape.layers * layer + max(head, working)


def scoring_bytes(work: Pass, *, adapted: bool) -> int:
    """The peak of a pass without gradients: DPO's reference (not adapted), the held-out loss."""
    shape = work.shape
    hidden = work.tokens * shape.hidden * work.width
    copies = 4 if adapted else 3 if shape.family.gated else 2
    inner = copies * work.tokens * shape.intermediate * work.width
    looking = _mask(work)
    if shape.family.eager:
        looking += work.scores * (2 * FLOAT32 + work.width)
        looking += 3 * work.tokens * shape.heads * shape.head_size * work.width
    head = 2 * hidden + _tile(work, work.kernels.tile_forward)
    return max(5 * hidden + max(inner, looking) + _dequantised(work), head)


def answering_bytes(work: Pass, new_tokens: int) -> int:
    """The peak of answering prompts of `length` tokens: reading them, and keys and values."""
    shape = work.shape
    sizes = shape.kv_heads * shape.head_size * work.width
    kept = 2 * shape.layers * work.sequences * (work.length + new_tokens) * sizes
    logits = work.sequences * shape.vocabulary * (FLOAT32 + work.width)
    copies = 4 if shape.family.gated else 2
    inner = work.tokens * shape.intermediate * (copies * work.width + 2 * FLOAT32)
    looking = work.scores * (2 * FLOAT32 + work.width) if shape.family.eager else 0
    looking += 3 * work.tokens * shape.heads * shape.head_size * work.width
    hidden = 5 * work.tokens * shape.hidden * work.width
    return kept + max(hidden + max(inner, looking) + _dequantised(work), logits)


def _attention_kept(work: Pass) -> int:
    """What the attention of one layer keeps, with half of the layer's norms."""
    shape, family = work.shape, work.shape.family
    heads = work.tokens * shape.heads * shape.head_size * work.width
    if family.eager:
        # Softmax keeps float32, and the values that it is multiplied with the compute dtype.
        parts = FLOAT32 + (work.width if work.width < FLOAT32 else 0)
        parts += work.width if family.softcaps else 0
        kept = 3 * heads + work.scores * parts
    else:
        # Values that came out of one product with queries and keys keep all three alive.
        kept = (6 if family.packed_heads else 4) * heads + _mask(work)
        kept += FLOAT32 * work.sequences * shape.heads * work.length
    return kept + _norms(work) // 2 + _linears(work, mlp=False)


def _rest_kept(work: Pass) -> int:
    """What the MLP of one layer keeps, with the other norms."""
    shape = work.shape
    inner = work.tokens * shape.intermediate * _after_norm(work)
    kept = (3 if shape.family.gated else 1) * inner
    return kept + _norms(work) - _norms(work) // 2 + _linears(work, mlp=True)


def _linears(work: Pass, *, mlp: bool) -> int:
    """The adapter's part: each dropped-out input with its mask, A's output, and cast factors."""
    each = factors = 0
    for linear in work.shape.linears:
        if linear.name.startswith("mlp.") == mlp:
            each += linear.inputs * (work.width + work.kernels.dropout_mask) + work.r * work.width
            factors += work.r * (linear.inputs + linear.outputs)
    return work.tokens * each + (factors * work.width if work.width < FLOAT32 else 0)


def _norms(work: Pass) -> int:
    family = work.shape.family
    hidden = work.tokens * work.shape.hidden
    if not family.is_layer_norm or (work.kernels.layer_norm_in_float32 and work.width < FLOAT32):
        return family.norms * hidden * FLOAT32
    return (1 if family.parallel else family.norms) * hidden * work.width


def _after_norm(work: Pass) -> int:
    """The width of what the first linear layers give."""
    widened = work.shape.family.is_layer_norm and work.kernels.layer_norm_in_float32
    return FLOAT32 if widened else work.width


def _working(work: Pass, rest: int) -> int:
    """What one layer needs while it is worked on, beside what is kept."""
    shape = work.shape
    inner = 3 * work.width
    if work.kernels.widens_adapter_input and work.width < FLOAT32:
        inner = max(inner, 2 * FLOAT32)
    mlp = work.tokens * shape.intermediate * inner
    # The MLP's own is free by the time that attention is gone back through.
    scores = work.scores * (2 * FLOAT32 + work.width) - rest if shape.family.eager else 0
    return max(mlp, scores) + 4 * work.tokens * shape.hidden * work.width + _dequantised(work)


def _dequantised(work: Pass) -> int:
    """One weight as it is while it multiplies."""
    return max(linear.numel for linear in work.shape.linears) * work.width


def _mask(work: Pass) -> int:
    return work.sequences * work.length**2 * work.width


def _tile(work: Pass, copies: int) -> int:
    tokens = min(work.tokens, TILE_TOKENS)
    entries = min(work.shape.vocabulary, work.kernels.tile)
    return tokens * (work.kernels.tile * work.width + entries * copies)
