"""The steps of merging in torch operations, for tensors of any device.

Model: `raylab.merge.steps` defines each step. Here a step is a handful of torch operations on
blocks of 2^22 entries: large enough to fill a GPU, small enough that the temporaries of a block
(at most about 90 bytes an entry, 0.4 GB) matter little beside the piece. Counts stay on the
device, and no operation waits for it: none copies to the host, has a shape that depends on values,
or chooses by `torch.where` between a tensor and a number, which torch would copy to the device.
Invariant: the bits are those of `raylab.merge.compiled_steps`, for IEEE 754 fixes what one sum,
product, quotient or conversion gives. So every product is an operation of its own, which torch
fuses with no sum; torch's sum a + alpha * b may be fused, and is exact there: alpha is 1 or -1. A
quotient takes its divisor from the device: by a number of the host, torch on CUDA multiplies with
its reciprocal, which is another number. float32 becomes float64 before a weight multiplies it.
SplitMix64 runs in int64, whose sums and products wrap like those of unsigned words.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch

from raylab.merge.steps import CANCELLED, GAMMA, HASH_BITS, INFINITE_FROM, MIX_1, MIX_2
from raylab.weights.torch_rows import TORCH_DTYPES

BLOCK = 1 << 22
_NAMES = {dtype: name for name, dtype in TORCH_DTYPES.items()}
_MAGNITUDE = 0x7FFFFFFF


def count_non_finite(delta: torch.Tensor) -> torch.Tensor:
    """How many entries are NaN or infinite."""
    return _zero(delta) + sum((~torch.isfinite(part)).sum() for part in delta.split(BLOCK))


def count_nonzero(delta: torch.Tensor) -> torch.Tensor:
    """How many entries are not zero."""
    return torch.count_nonzero(delta)


def widen(values: torch.Tensor, row: torch.Tensor) -> torch.Tensor:
    """Write float32(values) into `row`; return how many are NaN or infinite."""
    return count_non_finite(row.copy_(values))


def narrow(row: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    """Write `row` into `values`, rounded to their dtype; return how many are NaN or infinite."""
    return count_non_finite(values.copy_(row))


def add(row: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    """Add float32(values) to `row`; return how many are NaN or infinite."""
    return count_non_finite(row.add_(values))


def subtract(values: torch.Tensor, base: torch.Tensor, row: torch.Tensor) -> torch.Tensor:
    """Write float32(values) - float32(base) into `row`; return how many are NaN or infinite."""
    return count_non_finite(row.copy_(values).sub_(base))


def trim(delta: torch.Tensor, threshold: float, upper: float | None = None) -> torch.Tensor:
    """Set entries whose magnitude is below `threshold`, or above `upper`, to zero; return how many
    are not zero."""
    kept = _zero(delta)
    for part in delta.split(BLOCK):
        magnitude = part.abs()
        stays = magnitude >= threshold
        if upper is not None:
            stays &= magnitude <= upper
        kept += _keep(part, stays)
    return kept


def drop(delta: torch.Tensor, key: int, first: int, limit: int) -> torch.Tensor:
    """Set entries whose hash is not below `limit` to zero; return how many are not zero."""
    kept = _zero(delta)
    for start, part in _blocks(delta):
        kept += _keep(part, _hashes(part, key, first + start) < limit)
    return kept


def _keep(part: torch.Tensor, is_kept: torch.Tensor) -> torch.Tensor:
    is_kept &= part != 0
    part.masked_fill_(~is_kept, 0.0)
    return is_kept.sum()


def _hashes(part: torch.Tensor, key: int, first: int) -> torch.Tensor:
    """The upper 53 bits of the hash of each entry, int64."""
    words = torch.arange(first + 1, first + 1 + part.numel(), device=part.device)
    words.mul_(_wrapped(GAMMA)).add_(_wrapped(key))
    for shift, factor in ((30, MIX_1), (27, MIX_2)):
        words.bitwise_xor_(_shifted(words, shift)).mul_(_wrapped(factor))
    words.bitwise_xor_(_shifted(words, 31))
    return _shifted(words, 64 - HASH_BITS)


def _wrapped(word: int) -> int:
    """An unsigned 64-bit word as int64."""
    return word - (1 << 64) if word >> 63 else word


def _shifted(words: torch.Tensor, bits: int) -> torch.Tensor:
    """A logical shift to the right; torch's own copies the sign."""
    return (words >> bits).bitwise_and_((1 << (64 - bits)) - 1)


def drop_by_rank(
    delta: torch.Tensor,
    key: int,
    first: int,
    limits: torch.Tensor,
    divisors: torch.Tensor,
    scaled: torch.Tensor,
) -> torch.Tensor:
    """Drop entries by the limits of their ranks, and write what is left, scaled, into `scaled`."""
    kept, columns = _zero(delta), limits.numel()
    places = torch.arange(columns, device=delta.device)
    size = max(1, BLOCK // columns) * columns
    for start in range(0, delta.numel(), size):
        part = delta[start : start + size]
        rows = part.view(torch.int32).bitwise_and(_MAGNITUDE).to(torch.int64).view(-1, columns)
        # The place makes keys unique: any way of sorting gives one order.
        order = (rows << 32).bitwise_or_(places).sort(dim=1).values.bitwise_and_(0xFFFFFFFF)
        ranks = torch.empty_like(order).scatter_(1, order, places.expand_as(order)).view(-1)
        kept += _keep(part, _hashes(part, key, first + start) < limits[ranks])
        torch.div(part.to(torch.float64), divisors[ranks], out=scaled[start : start + size])
    return kept


def disjoint_merge(
    deltas: torch.Tensor,
    factors: Sequence[float],
    weights: Sequence[float],
    normalize: bool,
    merged: torch.Tensor,
) -> None:
    """Write the merged moves of the elected sign into `merged`."""
    least = CANCELLED * max(map(abs, weights))
    for start, part in _blocks(merged):
        rows = deltas[:, start : start + part.numel()]
        up, down, up_weight, down_weight = (torch.zeros_like(part) for _ in range(4))
        for row, factor, weight in zip(rows, factors, weights, strict=True):
            x = row.to(torch.float64).mul_(factor)
            up.add_(x.clamp(min=0))
            down.sub_(x.clamp(max=0))
            up_weight.add_((x > 0).to(torch.float64).mul_(weight))
            down_weight.add_((x < 0).to(torch.float64).mul_(weight))
        has_risen, has_fallen = up > down, down > up
        divisor = torch.where(has_fallen, down_weight, up_weight.masked_fill_(~has_risen, 1.0))
        divisor.masked_fill_(divisor.abs() <= least, 1.0)
        up.masked_fill_(~has_risen, 0.0)
        part.copy_(torch.where(has_fallen, down.neg_(), up))
        if normalize:
            part.div_(divisor)


def weighted_sum(
    deltas: torch.Tensor, factors: Sequence[float], divisor: float, merged: torch.Tensor
) -> None:
    """Write the sum of the x_i over `divisor` into `merged`."""
    on_device = torch.full((1,), divisor, dtype=torch.float64, device=merged.device)
    for start, part in _blocks(merged.zero_()):
        for row, factor in zip(deltas[:, start : start + part.numel()], factors, strict=True):
            part.add_(row.to(torch.float64).mul_(factor))
        part.div_(on_device)


def add_to_base(
    base: torch.Tensor, merged: torch.Tensor, scaling: float, result: torch.Tensor
) -> torch.Tensor:
    """Write base + scaling * merged into `result`; return how many entries overflow its dtype."""
    overflows, limit = _zero(base), INFINITE_FROM[_NAMES[result.dtype]]
    for start, moves in _blocks(merged):
        part = base[start : start + moves.numel()]
        exact = part.to(torch.float64)
        stays = moves == 0
        exact = torch.where(stays, exact, exact + moves.mul_(scaling))
        overflows += (~(exact.abs() < limit)).sum()
        part.copy_(exact if result.dtype == torch.float32 else _to_odd(exact))
    result.copy_(base)
    return overflows


def _to_odd(exact: torch.Tensor) -> torch.Tensor:
    """float64 to float32; an inexact entry takes the neighbour whose last bit is 1."""
    nearest = exact.to(torch.float32)
    widened, bits = nearest.to(torch.float64), nearest.view(torch.int32)
    odd = (bits - (widened.abs() > exact.abs()).to(torch.int32)).bitwise_or_(1)
    return torch.where(widened == exact, bits, odd).view(torch.float32)


def tally(delta: torch.Tensor, first: int, last: int, shift: int, counts: torch.Tensor) -> None:
    """Add to `counts` how many magnitudes of `delta`, as bits, lie at each step of 2^shift from
    `first` to `last`, and at its end how many lie above.

    delta: float32 (size,); counts: int64 (steps + 1,), on the same device. torch's bincount would
    wait for the device. Many atomic additions to one place wait for each other, so zeros, the most
    frequent value, are counted apart, and entries outside the range add 0 to places apart.
    """
    steps = counts.numel() - 1
    for part in delta.split(BLOCK):
        bits = part.view(torch.int32) & _MAGNITUDE
        counts[-1].add_((bits > last).sum())
        if first == 0:
            counts[0].add_((bits == 0).sum())
        is_inside = (bits >= max(first, 1)) & (bits <= last)
        apart = torch.arange(part.numel(), device=part.device).remainder_(steps)
        places = torch.where(is_inside, ((bits - first) >> shift).to(torch.int64), apart)
        counts.scatter_add_(0, places, is_inside.to(torch.int64))


def _zero(like: torch.Tensor) -> torch.Tensor:
    return torch.zeros((), dtype=torch.int64, device=like.device)


def _blocks(whole: torch.Tensor) -> Iterator[tuple[int, torch.Tensor]]:
    """(index of its first entry, block) for every block."""
    for start in range(0, whole.numel(), BLOCK):
        yield start, whole[start : start + BLOCK]
