"""How fast the reduction of a study is: `python jobs/bench_study.py [--before CHECKOUT]`.

Makes adapters of an 8B-shaped Llama (`bench_models`: r = 8, all linear layers, float32), with
--layers of its 32 layers, and reduces them as `raylab reduce` does in one process: norms of each
against the base model, five densities, curves, and all pairs. Prints a Markdown table: seconds,
seconds of all processors (which other work on the machine changes less), and peak anonymous memory
(`bench_measure`), by the calls of the reduction.

- With --before, the same by the code of another checkout, in turns. The remark of `now` is the
  ratio of the medians.
- Every number of --threads is measured; the remark is how much faster it is than the first.
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from bench_measure import measured
from bench_models import EIGHT_B, write_adapter

HERE = Path(__file__).parents[1]
DENSITIES = (0.01, 0.05, 0.1, 0.2, 0.5)
CALLS = ("sample", "measure", "collect", "mask", "relate")
"""Methods of a shard; those that a checkout does not know take no time."""

REDUCE = """
import json, sys, time
from pathlib import Path
from raylab.reduce.job import InProcess, Job
from raylab.reduce.passes import reduce_pairs
from raylab.reduce.row_block import Pair
from raylab.store.references import ModelLocation

threads, densities, *paths = json.loads(sys.argv[1])
names = [Path(path).name for path in paths]
places = {name: ModelLocation((Path(path),)) for name, path in zip(names, paths)}
pairs = tuple(Pair(f"{name}~base", name, "base") for name in names)
job = Job(
    {**places, "base": ModelLocation()}, pairs, vectors=tuple(names), threads=threads, device="cpu"
)
inside, found = InProcess(job), {}

def timed(job, calls):
    start, own = time.perf_counter(), time.process_time()
    answers = list(inside(job, calls))
    spent = found.setdefault(calls[0].method, [0.0, 0.0])
    spent[0] += time.perf_counter() - start
    spent[1] += time.process_time() - own
    return iter(answers)

start, own = time.perf_counter(), time.process_time()
tables = reduce_pairs(job, densities, timed)
found["all"] = [time.perf_counter() - start, time.process_time() - own]
cosines = [row["cosine"] for row in tables.pairs if row["level"] == "all"]
print(json.dumps({"seconds": found, "cosines": cosines}))
"""


def reduced(code: Path, adapters: Sequence[Path], threads: int) -> Mapping[str, Any]:
    """One reduction by the code in a checkout: by call, [seconds, processor's seconds]; `memory`;
    `cosines`. Ends the bench with its words where it fails."""
    asked = json.dumps([threads, DENSITIES, *map(str, adapters)])
    # The working directory may hold another checkout.
    run = measured(["env", f"PYTHONPATH={code}", sys.executable, "-P", "-c", REDUCE, asked])
    return {**json.loads(run.output), "memory": run.memory}


def median(runs: Sequence[Mapping[str, Any]], call: str, place: int) -> float:
    """The median of a call's seconds (place 0) or processor's seconds (1)."""
    return statistics.median(run["seconds"].get(call, (0.0, 0.0))[place] for run in runs)


def lines(options: argparse.Namespace) -> Iterator[str]:
    """The table, a line at a time."""
    yield "| what | seconds | processor | memory | |"
    yield "|---|---:|---:|---:|---|"
    model = replace(options.model, layers=options.layers)
    before = {"before": options.before.resolve()} if options.before else {}
    codes = {**before, "now": HERE}
    with tempfile.TemporaryDirectory(prefix="bench-study-", dir=options.directory) as work:
        made = [
            write_adapter(Path(work, f"m{seed:03}"), model, seed) for seed in range(options.models)
        ]
        if options.warm:
            for code in codes.values():
                reduced(code, made[:2], 1)
        first: dict[str, float] = {}
        for threads in options.threads:
            runs: dict[str, list[Mapping[str, Any]]] = {name: [] for name in codes}
            for _, name in itertools.product(range(options.turns), codes):
                runs[name].append(reduced(codes[name], made, threads))
            for name, own in runs.items():
                seconds = median(own, "all", 0)
                faster = first.setdefault(name, seconds) / seconds
                remark = [f"{faster:.2f} times as fast as {options.threads[0]}"]
                if name == "now" and before:
                    remark += ratios(runs)
                yield from rows(f"{name}, {threads} thread{'s' * (threads > 1)}", own, remark)


def ratios(runs: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[str]:
    """How `now` stands to `before`."""
    time, processor = (
        median(runs["now"], "all", n) / median(runs["before"], "all", n) for n in (0, 1)
    )
    pairs = zip(runs["now"][0]["cosines"], runs["before"][0]["cosines"], strict=True)
    apart = max((abs(one - other) for one, other in pairs), default=0.0)
    return [
        f"{time:.3f} of the time",
        f"{processor:.3f} of the processor's",
        f"cosines at most {apart:.1e} apart",
    ]


def rows(what: str, runs: Sequence[Mapping[str, Any]], remark: Sequence[str]) -> Iterator[str]:
    """A line for the whole, and one for each call."""
    memory = f"{max(run['memory'] for run in runs) / 1e6:.0f} MB"
    whole, own = median(runs, "all", 0), median(runs, "all", 1)
    yield f"| {what} | {whole:.1f} | {own:.1f} | {memory} | {'; '.join(remark)} |"
    for call in CALLS:
        if any(call in run["seconds"] for run in runs):
            yield f"| - {call} | {median(runs, call, 0):.1f} | {median(runs, call, 1):.1f} | | |"


def parsed(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--before", type=Path, help="another checkout of this repository")
    parser.add_argument("--layers", type=int, default=1, help="of the 32 (1: 0.22 G entries each)")
    parser.add_argument("--models", type=int, default=24)
    parser.add_argument("--threads", type=int, nargs="*", default=[1, 2])
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--directory", type=Path, help="where adapters are made, and deleted")
    parser.add_argument("--warm", action=argparse.BooleanOptionalAction, default=True,
                        help="compile loops before anything is measured")  # fmt: skip
    parser.set_defaults(model=EIGHT_B)
    return parser.parse_args(arguments)


if __name__ == "__main__":
    for text in lines(parsed()):
        print(text, flush=True)
