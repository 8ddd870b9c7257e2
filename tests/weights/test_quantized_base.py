"""What a training starts from and holds, against models that are really loaded in 4 bits."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from bitsandbytes.functional import QuantState, dequantize_4bit, quantize_4bit
from bitsandbytes.nn import Linear4bit
from safetensors.torch import save_file

from raylab.spec.study import Quantization
from raylab.train.model import load_base
from raylab.weights import Checkpoint, row_tiles
from raylab.weights.checkpoint import CountedWeights
from raylab.weights.quantized_base import HeldWeights
from tests.architectures import ARCHITECTURES

BF16 = torch.bfloat16
SETTINGS = [
    Quantization(),
    Quantization(double=True),
    Quantization(type="fp4", compute_dtype="float16"),
    Quantization(compute_dtype="float32", double=True),
    Quantization(bits=16, compute_dtype="float16"),
]


@pytest.fixture(autouse=True)
def small_tiles(monkeypatch):
    """Tiles of 7 rows of 64 columns, which begin and end within blocks of other widths."""
    monkeypatch.setattr(row_tiles, "TILE_ENTRIES", 64 * 7)
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def whole(weights, name):
    shape = weights.shapes[name]
    parts = [weights.raw(name, *bounds) for bounds in row_tiles.tiles(shape)]
    return torch.cat(parts).reshape(shape)


def as_loaded(parameter):
    state = getattr(parameter, "quant_state", None)
    return parameter.data if state is None else dequantize_4bit(parameter.data, state)


def held_by_training(base, quantization):
    """The weights of the model that training loads, by the files' names."""
    model = load_base(base, quantization)
    weights = {name: as_loaded(parameter) for name, parameter in model.named_parameters()}
    count = sum(isinstance(module, Linear4bit) for module in model.modules())
    assert count == (0 if quantization.bits == 16 else len(weights_of_layers(weights)))
    return weights | {"embed_out.weight": weights.get("lm_head.weight")}


def weights_of_layers(names):
    return [n for n in names if ".layers." in n and n.endswith("weight") and "norm" not in n]


@pytest.mark.parametrize(
    ("quantization", "dtype"),
    [(SETTINGS[1], BF16), *((each, torch.float32) for each in SETTINGS)],
    ids=str,
)
def test_held_equals_the_weights_that_training_loads(bases, dtype, quantization):
    held = HeldWeights(Checkpoint(bases["qwen2", dtype]), quantization)
    expected = held_by_training(bases["qwen2", dtype], quantization)
    for name in weights_of_layers(held.shapes):
        assert torch.equal(whole(held, name), expected[name].float()), name


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_held_quantises_linear_layers_alone(bases, architecture):
    checkpoint = Checkpoint(bases[architecture, BF16])
    held = HeldWeights(checkpoint, Quantization())
    expected = held_by_training(bases[architecture, BF16], Quantization())
    layers = weights_of_layers(held.shapes)
    assert len(layers) in (8, 14)
    for name in held.shapes:
        rows = whole(held, name)
        assert torch.equal(rows.float(), expected[name].float()), name
        is_kept = torch.equal(rows.float(), whole(checkpoint, name).float())
        assert is_kept == (name not in layers)


def reference(weight, double):
    """dequantise(quantise(weight)) written out with bitsandbytes' own table of values."""
    packed, state = quantize_4bit(weight, quant_type="nf4", compress_statistics=double)
    codes = torch.stack([packed.view(-1) >> 4, packed.view(-1) & 15], dim=1).view(-1)
    scales = QuantState.from_dict(state.as_dict(packed=False), weight.device).absmax
    if double:
        _, plain = quantize_4bit(weight, quant_type="nf4")
        scales = plain.absmax - state.offset
        steps = state.state2.code[state.absmax.long()].view(-1)
        largest = state.state2.absmax.repeat_interleave(256)[: steps.numel()]
        scales = steps * largest + state.offset
    spread = scales.repeat_interleave(64)[: weight.numel()]
    return (state.code[codes.long()[: weight.numel()]] * spread).to(weight.dtype).view_as(weight)


@pytest.mark.parametrize("double", [False, True])
@pytest.mark.parametrize("shape", [(100, 96), (33, 50), (5, 200), (3, 8), (300, 64)])
def test_held_any_width_equals_the_table_of_values(tmp_path, shape, double):
    weight = torch.randn(shape, generator=torch.Generator().manual_seed(1)).to(BF16)
    save_file({"a.weight": weight}, tmp_path / "model.safetensors")
    held = HeldWeights(Checkpoint(tmp_path), Quantization(double=double))
    expected = reference(weight, double).float()
    assert torch.equal(whole(held, "a.weight"), expected)
    assert not torch.equal(expected, weight.float())


def test_held_double_from_many_threads_is_the_same(bases):
    name = "model.layers.0.mlp.up_proj.weight"
    checkpoint = Checkpoint(bases["llama", BF16])
    expected = whole(HeldWeights(checkpoint, Quantization(double=True)), name)
    held = HeldWeights(checkpoint, Quantization(double=True))
    with ThreadPoolExecutor(6) as pool:
        rows = list(pool.map(lambda row: held.raw(name, row, row + 1), range(128)))
    assert torch.equal(torch.cat(rows), expected)


def test_counted_counts_every_read_in_bytes(bases):
    counted = CountedWeights(Checkpoint(bases["llama", BF16]))
    assert counted.bytes_read == 0
    for _ in range(3):
        counted.raw("model.layers.0.mlp.up_proj.weight", 10, 20)
    assert counted.bytes_read == 3 * 10 * 64 * 2
