"""How fast subspaces are compared: `python jobs/bench_subspaces.py [--models 24]`.

Makes adapters of an 8B-shaped Llama (r = 8, all linear layers, float32) in a temporary directory,
compares the subspaces of all their pairs in a process of its own, and prints, as a Markdown table,
its time and memory. Beside it stands what dense SVDs take: of the two deltas of one layer's
attention, formed in float64 and decomposed by torch, against the same tensors out of their
factors, side by side in one process on one thread.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from math import comb
from pathlib import Path

from bench_measure import measured, python
from bench_models import EIGHT_B, RANK, Llama, write_adapter
from bench_reduce import Row, machine, table

_COMPARE = """
import sys, time
from pathlib import Path
from raylab.reduce.job import InProcess, Job
from raylab.reduce.passes import relate_subspaces
from raylab.store.references import ModelLocation

places = {Path(path).name: ModelLocation((Path(path),)) for path in sys.argv[2:]}
job = Job(places, (), vectors=tuple(places), threads=int(sys.argv[1]))
start = time.perf_counter()
rows = relate_subspaces(job, InProcess()).subspaces
print(time.perf_counter() - start, len(rows))
"""


def all_pairs(work: Path, model: Llama, count: int, threads: Sequence[int]) -> Iterator[Row]:
    """All pairs of `count` adapters, by threads."""
    made = [write_adapter(work / f"m{seed}", model, seed) for seed in range(count)]
    tensors = sum(1 for _ in model.linear())
    for each in threads:
        run = measured(python(_COMPARE, each, *made))
        seconds, rows = run.output.split()
        yield Row(
            f"{comb(count, 2)} pairs of {count} adapters, {tensors} tensors, {each} threads",
            float(seconds),
            run.memory,
            f"{rows} rows",
        )


def beside_dense(work: Path, model: Llama) -> Iterator[Row]:
    """One layer's attention by dense decompositions, and out of factors."""
    import torch

    from raylab.reduce.subspaces import subspaces_of
    from raylab.store.references import ModelLocation
    from raylab.weights.views import ViewedModel

    torch.set_num_threads(1)
    one = replace(model, layers=1)
    paths = [write_adapter(work / f"one{seed}", one, seed) for seed in range(2)]
    models = {path.name: ViewedModel(ModelLocation((path,))) for path in paths}
    names = [f"{name}.weight" for name, _ in one.linear() if "self_attn" in name]
    start = time.perf_counter()
    found = subspaces_of(models, names)
    ours = time.perf_counter() - start
    start, apart = time.perf_counter(), 0.0
    for name in names:
        factors = [viewed.plain_factors(name)[0] for viewed in models.values()]
        dense = [torch.linalg.svd(f.scale * (f.up.double() @ f.down.double()), full_matrices=False)
                 for f in factors]  # fmt: skip
        product = dense[0].U[:, :RANK].T @ dense[1].U[:, :RANK]
        overlap = float(product.square().sum()) / RANK
        apart = max(apart, abs(overlap - float(found[name].sides[0, 0, 0, 0])))
    theirs = time.perf_counter() - start
    yield Row("one pair, one layer's attention, out of factors", ours, None)
    yield Row(
        "the same by dense SVDs in float64",
        theirs,
        None,
        f"{theirs / ours:.0f} times as long; overlaps at most {apart:.1g} apart",
    )


def bench(options: argparse.Namespace) -> None:
    with tempfile.TemporaryDirectory(prefix="bench-", dir=options.directory) as work:
        model = replace(EIGHT_B, layers=options.layers or EIGHT_B.layers)
        rows = list(beside_dense(Path(work), model))
        rows += all_pairs(Path(work), model, options.models, options.workers)
    where = machine(("torch", "numpy"))
    if options.json:
        print(json.dumps({"machine": where, "rows": [vars(row) for row in rows]}, indent=1))
    else:
        named = ", ".join(f"{key} {value}" for key, value in where.items())
        print(f"{table(rows)}\n\nMeasured on: {named}.")


def parsed(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="How fast subspaces are compared.")
    parser.add_argument("--models", type=int, default=24, help="adapters (24)")
    parser.add_argument("--layers", type=int, help="layers of each (32)")
    parser.add_argument("--workers", type=int, nargs="*", default=[1, 2], help="threads to compare")
    parser.add_argument("--directory", type=Path, help="where models are made, and deleted")
    parser.add_argument("--json", action="store_true", help="one JSON document")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    bench(parsed())
