"""How fast the reduction is: `python jobs/bench_reduce.py`.

Makes synthetic models (`bench_models`) in a temporary directory and prints, as a Markdown table,
what raylab and others need for the same task, measured side by side in one run (`bench_measure`
says how), and what large studies would take (`bench_paper`).

- Plain reading is one thread, `readinto` one 8 MiB buffer, page cache warm, best of five: the
  least that looking at every byte once can cost. Of all else the best of --repeat counts.
- "inside" is what `raylab diff --json` gives as "seconds"; otherwise the whole command is timed.
- The adapters are of an 8B-shaped Llama (r = 8, all linear layers, float32), with no base on
  disk. Their arithmetic is 2 * r operations per entry of each delta; the share is of what torch
  reaches in the float32 product of two large square matrices, on all cores, in the same run.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from itertools import permutations
from pathlib import Path
from typing import Any

from bench_measure import PLAIN, READ, READ_ONCE, SGEMM, Run, best, forget, measured, python
from bench_models import (
    EIGHT_B,
    HALF_B,
    RANK,
    SEVEN_B,
    Llama,
    bytes_of,
    write_adapter,
    write_checkpoint,
)
from bench_paper import extrapolation

DENSITIES = (0.01, 0.05, 0.1, 0.2, 0.5)
RAYLAB = str(Path(sys.executable).parent / "raylab")


def diff(a: Path, b: Path, threads: int | None) -> list[str]:
    """The command line of `raylab diff` with five densities."""
    asked = [word for density in DENSITIES for word in ("--density", str(density))]
    some = ["--threads", str(threads)] if threads else []
    return [RAYLAB, "diff", str(a), str(b), *asked, *some, "--json"]


@dataclass(frozen=True)
class Row:
    """One line of the table; memory in bytes."""

    what: str
    seconds: float
    memory: int | None
    remark: str = ""


@dataclass(frozen=True)
class Inside:
    """What one `raylab diff` took: the whole command, and inside the process."""

    run: Run
    seconds: float
    found: dict[str, Any]


def measured_diff(a: Path, b: Path, threads: int | None, repeat: int) -> Inside:
    runs = [measured(diff(a, b, threads)) for _ in range(repeat)]
    found = [json.loads(run.output) for run in runs]
    return Inside(best(runs), min(each["seconds"] for each in found), found[0])


def checkpoint_rows(a: Path, b: Path, workers: Sequence[int], repeat: int) -> Iterator[Row]:
    size = bytes_of(a, b)
    reading = measured(python(READ, a, b))
    read = float(reading.output)
    yield Row("reading both once", read, reading.memory, f"{size / read / 1e9:.1f} GB/s")
    ours = measured_diff(a, b, None, repeat)
    plain = best(measured(python(PLAIN, a, b, *DENSITIES)) for _ in range(repeat))
    yield Row(
        "raylab diff, inside",
        ours.seconds,
        ours.run.memory,
        f"{ours.seconds / read:.2f} times reading; "
        f"{ours.found['bytes_read'] / size:.2f} times the bytes",
    )
    yield Row(
        "raylab diff, whole command",
        ours.run.seconds,
        ours.run.memory,
        f"1/{plain.seconds / ours.run.seconds:.1f} of the plain script; "
        f"L2 {ours.found['norms']['l2']:.4f}",
    )
    said = plain.output.split()
    yield Row("plain script", plain.seconds, plain.memory, f"L2 {float(said[3]):.4f} (float32)")
    yield from worker_rows("checkpoints", a, b, workers, repeat)


def large_rows(a: Path, b: Path) -> Iterator[Row]:
    """A pair that is larger than memory: nothing of it is in the page cache when a run starts."""
    size, read = bytes_of(a, b), {}
    for count in (1, 2):
        forget(a, b)
        read[count] = float(measured(python(READ_ONCE, count, a, b)).output)
        what = f"reading {size / 1e9:.0f} GB from the disk, {count} thread{'s' * (count > 1)}"
        yield Row(what, read[count], None, f"{size / read[count] / 1e9:.2f} GB/s")
    for count in (1, 2):
        forget(a, b)
        run = measured(diff(a, b, count))
        inside = json.loads(run.output)["seconds"]
        of_read = ", ".join(f"{inside / read[n]:.2f} of reading with {n}" for n in read)
        what = f"raylab diff of it, inside, {count} thread{'s' * (count > 1)}"
        yield Row(what, inside, run.memory, f"{of_read}; {run.processor:.0f} CPU s")


def worker_rows(what: str, a: Path, b: Path, workers: Sequence[int], repeat: int) -> Iterator[Row]:
    """`raylab diff` inside the process with each number of threads, against the first."""
    first = None
    for count in workers:
        found = measured_diff(a, b, count, repeat)
        first = first or found.seconds
        yield Row(
            f"{what}, {count} thread{'s' * (count > 1)}, inside",
            found.seconds,
            found.run.memory,
            f"{first / found.seconds:.2f} times as fast as {workers[0]}",
        )


def adapter_rows(
    a: Path, b: Path, model: Llama, workers: Sequence[int], repeat: int
) -> Iterator[Row]:
    entries = sum(math.prod(shape) for _, shape in model.linear())
    operations = 2 * 2 * RANK * entries
    peak = float(measured(python(SGEMM, min(4096, model.hidden))).output)
    ours = measured_diff(a, b, None, repeat)
    share = operations / ours.seconds / peak
    yield Row(
        "8B adapters, raylab diff, inside",
        ours.seconds,
        ours.run.memory,
        f"{bytes_of(a, b) / 1e6:.0f} MB on disk; {entries / ours.seconds / 1e9:.2f} G entries/s; "
        f"{share:.1%} of the {peak / 1e9:.0f} GFLOP/s of a large product",
    )
    yield Row("8B adapters, raylab diff, whole command", ours.run.seconds, ours.run.memory)
    yield from worker_rows("8B adapters", a, b, workers, repeat)


def bytes_rows(work: Path, model: Llama) -> Iterator[Row]:
    """Two comparisons or twenty (each ordered pair once or twice) over the same four models."""
    from raylab.reduce.job import InProcess, Job
    from raylab.reduce.passes import reduce_pairs
    from raylab.reduce.row_block import Pair
    from raylab.store.references import ModelLocation

    made = [write_checkpoint(work / f"m{seed}", model, seed) for seed in range(4)]
    places = {path.name: ModelLocation(checkpoint=path, base=made[0]) for path in made}
    pairs = (("m0", "m1"), ("m2", "m3"), *permutations(places, 2), *permutations(places, 2))
    for count in (2, 20):
        asked = tuple(Pair(f"{a}~{b} {i}", a, b) for i, (a, b) in enumerate(pairs[:count]))
        start = time.perf_counter()
        tables = reduce_pairs(Job(places, asked), DENSITIES, InProcess())
        yield Row(
            f"{count} comparisons over the same 4 models",
            time.perf_counter() - start,
            None,
            f"{tables.bytes_read} bytes read, {tables.bytes_read_again} again; "
            f"{bytes_of(*made)} on disk",
        )


def machine(
    libraries: Sequence[str] = ("torch", "numpy", "numba", "safetensors"),
) -> dict[str, Any]:
    """The machine and the versions that the numbers belong to."""
    models = [
        line.partition(":")[2].strip()
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if line.startswith("model name")
    ]
    return {
        "cpu": models[0] if models else platform.processor(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9),
        "python": platform.python_version(),
        **{name: version(name) for name in libraries},
    }


def table(rows: Sequence[Row]) -> str:
    lines = ["| what | seconds | peak memory | |", "|---|---:|---:|---|"]
    for row in rows:
        memory = "" if row.memory is None else f"{row.memory / 1e6:.0f} MB"
        lines.append(f"| {row.what} | {row.seconds:.3g} | {memory} | {row.remark} |")
    return "\n".join(lines)


def rows_of(work: Path, options: argparse.Namespace) -> Iterator[Row]:
    """Every measurement; models are made when they are first needed."""
    if options.large is not None:
        made = ((work / name, SEVEN_B, seed) for name, seed in (("a", 1), ("b", 2)))
        yield from large_rows(*(options.large or [write_checkpoint(*each) for each in made]))
        return
    model = replace(options.model, layers=options.layers or options.model.layers)
    a, b = (write_checkpoint(work / name, model, seed) for name, seed in (("a", 1), ("b", 2)))
    yield from checkpoint_rows(a, b, options.workers, options.repeat)
    x, y = (
        write_adapter(work / name, options.adapted, seed) for name, seed in (("x", 1), ("y", 2))
    )
    yield from adapter_rows(x, y, options.adapted, options.workers, options.repeat)
    yield from bytes_rows(work, replace(model, layers=2, vocabulary=model.vocabulary // 16))


def bench(options: argparse.Namespace) -> None:
    with tempfile.TemporaryDirectory(prefix="bench-", dir=options.directory) as work:
        rows = []
        for row in rows_of(Path(work), options):
            rows.append(row)
            print(f"{row.what}: {row.seconds:.3g} s  {row.remark}", file=sys.stderr, flush=True)
    where = machine()
    if options.json:
        print(json.dumps({"machine": where, "rows": [asdict(row) for row in rows]}, indent=1))
    else:
        named = ", ".join(f"{key} {value}" for key, value in where.items())
        print(f"{table(rows)}\n\nMeasured on: {named}.\n\n{extrapolation()}")


def parsed(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="How fast the reduction is.")
    parser.add_argument("--layers", type=int, help="layers of the checkpoints (16: 0.5 B)")
    parser.add_argument("--directory", type=Path, help="where models are made, and deleted")
    parser.add_argument("--workers", type=int, nargs="*", default=[1, 2], help="threads to compare")
    parser.add_argument("--repeat", type=int, default=3, help="the best of so many counts")
    parser.add_argument(
        "--large",
        type=Path,
        nargs="*",
        metavar="MODEL",
        help="only a pair of 27 GB beside reading it: this one, or one that is made",
    )
    parser.add_argument("--json", action="store_true", help="one JSON document")
    parser.set_defaults(model=HALF_B, adapted=EIGHT_B)
    return parser.parse_args(arguments)


if __name__ == "__main__":
    bench(parsed())
