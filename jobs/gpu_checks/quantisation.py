"""The check `quantisation`: nf4 codes, constants and values, of a GPU, a CPU and the definition.

Model: a tensor is quantised in blocks of 64 entries: the largest magnitude of each, and for each
entry the nearest of 16 values between -1 and 1 (Dettmers et al. 2023, arXiv:2305.14314). Codes are
held against the definition written out with torch, and those of the two devices against each
other. Then the weights that a training holds on this device are held against
`raylab.weights.quantized_base`, which makes them again on a CPU.
Invariant: a tensor is the same bits on both devices before it is quantised.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from bitsandbytes.functional import QuantState, dequantize_4bit, quantize_4bit

from gpu_checks.inputs import DTYPES, TINY, write_model
from gpu_checks.report import Report, Setting
from raylab.spec.study import Quantization
from raylab.train.model import load_base
from raylab.weights import Checkpoint
from raylab.weights.quantized_base import HeldWeights

SHAPES = ((256, 64), (100, 96), (33, 50), (5, 200), (3, 8), (64, 4096), (1000, 1000))
LARGE = ((4096, 4096), (14336, 4096))
_BLOCK = 64


@dataclass(frozen=True)
class Quantised:
    """One tensor in 4 bits, on a CPU. absmax: float32, of every block, dequantised where double;
    stored: the bytes or numbers that are kept of them; values: dequantised, flat, in its dtype."""

    codes: torch.Tensor
    absmax: torch.Tensor
    stored: torch.Tensor
    values: torch.Tensor
    table: torch.Tensor


def quantised(weight: torch.Tensor, device: str, double: bool) -> Quantised:
    """`weight` quantised and dequantised on `device`."""
    if device == "cpu":
        # bitsandbytes 0.50.2 dequantises some matrices wrongly on a CPU, but not a flat run.
        weight = weight.reshape(-1)
    packed, state = quantize_4bit(
        weight.to(device), quant_type="nf4", blocksize=_BLOCK, compress_statistics=double
    )
    values = dequantize_4bit(packed, state).reshape(-1).cpu()
    flat = packed.view(-1)
    codes = torch.stack([flat >> 4, flat & 15], dim=1).view(-1)[: weight.numel()].cpu()
    return Quantised(codes, _scales(state), state.absmax.cpu(), values, state.code.cpu())


def _scales(state: QuantState) -> torch.Tensor:
    if not state.nested:
        return state.absmax.float().cpu()
    inner = state.state2
    steps = inner.code[state.absmax.long()].view(-1).cpu()
    largest = inner.absmax.cpu().repeat_interleave(inner.blocksize)[: steps.numel()]
    return steps * largest + state.offset.cpu()


def check(setting: Setting, report: Report) -> None:
    """Every shape and dtype, once with plain constants and once with double ones."""
    shapes = SHAPES + setting.sized(LARGE, LARGE[:1], ())
    for dtype in DTYPES:
        for double in (False, True):
            kind = f"{dtype}{', double' if double else ''}"
            made = {shape: _weight(shape, dtype) for shape in shapes}
            on_cpu = {shape: quantised(w, "cpu", double) for shape, w in made.items()}
            if not double:
                _against_definition(report, kind, made, on_cpu)
            if report.on_gpu(f"{kind}: the GPU's bits are the CPU's"):
                on_gpu = {shape: quantised(w, "cuda", double) for shape, w in made.items()}
                _against_each_other(report, kind, on_cpu, on_gpu)
    _held(setting, report)


def _weight(shape: tuple[int, int], dtype: str) -> torch.Tensor:
    generator = torch.Generator().manual_seed(shape[0])
    return (0.02 * torch.randn(shape, generator=generator)).to(DTYPES[dtype])


def _against_definition(
    report: Report,
    kind: str,
    made: dict[tuple[int, int], torch.Tensor],
    found: dict[tuple[int, int], Quantised],
) -> None:
    """The CPU's codes are nearest values, and its constants the largest magnitudes."""
    wrong_scales = farther = 0
    for shape, weight in made.items():
        one, flat = found[shape], weight.float().view(-1)
        padded = torch.nn.functional.pad(flat, (0, -len(flat) % _BLOCK)).view(-1, _BLOCK)
        scales = padded.abs().amax(dim=1)
        wrong_scales += int((scales != one.absmax).sum())
        share = flat / scales.repeat_interleave(_BLOCK)[: len(flat)]
        taken = (one.table[one.codes.long()] - share).abs()
        # Halfway between two values either is nearest, to a few units in the last place.
        for part, mine in zip(share.split(1 << 20), taken.split(1 << 20), strict=True):
            nearest = (one.table - part[:, None]).abs().amin(dim=1)
            farther += int((mine > nearest + 1e-6).sum())
    report.claim(f"{kind}: the CPU's constants are the blocks' largest", wrong_scales == 0)
    report.claim(f"{kind}: the CPU's codes are the nearest", farther == 0, f"{farther} are not")


def _against_each_other(
    report: Report,
    kind: str,
    on_cpu: dict[tuple[int, int], Quantised],
    on_gpu: dict[tuple[int, int], Quantised],
) -> None:
    counts = {"codes": 0, "constants": 0, "values": 0}
    places: dict[str, list[str]] = {name: [] for name in counts}
    entries, largest = 0, 0.0
    for shape, one in on_cpu.items():
        other = on_gpu[shape]
        entries += one.codes.numel()
        pairs = {
            "codes": (one.codes, other.codes),
            "constants": (one.stored, other.stored),
            "values": (one.values, other.values),
        }
        for name, (x, y) in pairs.items():
            differing = int((x != y).sum()) if x.shape == y.shape else max(x.numel(), y.numel())
            counts[name] += differing
            places[name] += [f"{shape[0]}x{shape[1]}"] if differing else []
        apart = (one.values.float() - other.values.float()).abs().max()
        largest = max(largest, float(apart / one.values.float().abs().max()))
    for name, count in counts.items():
        where = f" in {', '.join(places[name])}" if count else ""
        found = (
            f"{count} differ{where}, of {entries} entries; "
            f"values at most {largest:.1e} of the largest apart"
        )
        report.claim(f"{kind}: the GPU's {name} are the CPU's", count == 0, found)


def _held(setting: Setting, report: Report) -> None:
    """The weights that a training holds on this device are those that the audit assumes."""
    for dtype, double in (("bfloat16", False), ("bfloat16", True), ("float16", False)):
        settings = Quantization(compute_dtype=dtype, double=double)
        folder = setting.work / f"held-{dtype}-{double}"
        base = write_model(folder, TINY, "bfloat16")
        assumed = HeldWeights(Checkpoint(base), settings)
        model = load_base(base, settings)
        wrong, count = [], 0
        for name, parameter in model.named_parameters():
            state = getattr(parameter, "quant_state", None)
            if state is None:
                continue
            count += 1
            held = dequantize_4bit(parameter.data, state).float().cpu()
            if not torch.equal(held, assumed.raw(name, 0, held.shape[0])):
                wrong.append(name)
        kind = f"{dtype}{', double' if double else ''}"
        found = f"{len(wrong)} of {count} differ{': ' + wrong[0] if wrong else ''}"
        what = f"{kind}: a training holds the weights that `--view dequantized` assumes"
        report.claim(what, count > 0 and not wrong, found)
