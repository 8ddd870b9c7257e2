"""The table `intruders`: the calls that fill it, a tensor each, and its rows by level.

Model: a call holds one tensor of every model against the base model's (`raylab.reduce.intruders`).
A row of several tensors has the sums of their counts, and the shares of all their energy together:
sum |U_k^T D|_F^2 / sum |D|_F^2, beside what chance gives, sum (k / rows) |D|_F^2 / sum |D|_F^2.
Invariant: rows depend on the sums alone, not on the order of calls. A delta of zeros has null
shares; a model without a delta that has factors has no rows.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from raylab.reduce.intruders import BaseSums, Found
from raylab.reduce.job import Call, Executor, Job
from raylab.spec.spectra import BaseDirections
from raylab.store.filesystem import Store
from raylab.weights.names import levels, natural_order
from raylab.weights.safetensors_reader import Shape


def relate_to_base(
    job: Job, execute: Executor, asked: BaseDirections, store: Store, content: str
) -> list[dict[str, Any]]:
    """The rows of the table `intruders` of the models of `job.vectors`. Each tensor is one call:
    the decomposition of a large one takes minutes."""
    shapes = job.compared()
    names = sorted((n for n in shapes if len(shapes[n]) == 2), key=lambda n: (-_work(shapes[n]), n))
    about = asked.model_dump(), store.uri, content
    calls = [Call("intruders", ((name,), *about), at) for at, name in enumerate(names)]
    total: Found = {}
    for _, found in execute(job, calls):
        for key, sums in found.items():
            total.setdefault(key, {}).update(sums)
    return [
        {"model": key, **row}
        for key in job.vectors
        for row in intruder_rows(total.get(key, {}), asked)
    ]


def _work(shape: Shape) -> int:
    return min(shape) ** 2 * sum(shape)


def intruder_rows(sums: Mapping[str, BaseSums], asked: BaseDirections) -> Iterator[dict[str, Any]]:
    """Rows for the whole, every layer, module kind and tensor. Shares of several tensors are those
    of all their energy together; no rows without a tensor."""
    ordered = {name: sums[name] for name in sorted(sums, key=natural_order)}
    for level, key, members in levels(ordered) if sums else ():
        parts = [sums[name] for name in members]
        energy = math.fsum(part.energy for part in parts)
        directions = sum(part.directions for part in parts)
        intruders = sum(part.intruders for part in parts)
        yield {
            "level": level,
            "key": key,
            "tensors": len(parts),
            "top": asked.top,
            "epsilon": asked.epsilon,
            "directions": directions,
            "intruders": intruders,
            "intruder_share": intruders / directions if directions else None,
            "share_left": _share([part.left for part in parts], energy),
            "share_right": _share([part.right for part in parts], energy),
            "chance_left": _share([_by_chance(p, p.rows, asked.top) for p in parts], energy),
            "chance_right": _share([_by_chance(p, p.columns, asked.top) for p in parts], energy),
        }


def _by_chance(part: BaseSums, side: int, top: int) -> float:
    return part.energy * min(top, part.rows, part.columns) / side


def _share(parts: Sequence[float], of: float) -> float | None:
    # Rounding must not give more than the whole.
    return min(1.0, math.fsum(parts) / of) if of > 0 else None
