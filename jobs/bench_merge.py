"""How fast merges are: `python jobs/bench_merge.py --mergekit .../bin/mergekit-yaml`.

Makes synthetic checkpoints (`bench_models`), runs `raylab merge --config` and mergekit on the same
YAML, in turn, and prints a Markdown table. Every measurement is a whole command in a process of its
own (`bench_measure`): wall seconds with those of all processors, the peak of anonymous memory, and
the peak of resident memory, in which mapped files count. Of --turns runs the fastest counts, with
the highest peak of all. mergekit has its defaults for a CPU. Files are in the page cache where the
memory allows it: the first run of every method is the other program's as often as raylab's.

--large merges a pair of 7 B parameters (27 GB; the base model and one trained from it) by TIES: the
pair that it names, or one that is made. Beside it stands what any merge has to do: read all inputs
and write as many bytes as the output has, in blocks of 8 MiB, and flush them. Both begin with
inputs that are not in the page cache.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from bench_measure import Run, best, forget, measured, python
from bench_models import HALF_B, SEVEN_B, bytes_of, write_checkpoint
from bench_reduce import RAYLAB, machine

from raylab.spec.merge_methods import METHODS

COPY = """
import os, sys
from pathlib import Path
out, *folders = map(Path, sys.argv[1:])
buffer = memoryview(bytearray(8 << 20))
left = sum(file.stat().st_size for file in folders[0].glob("*.safetensors"))
with out.open("wb", buffering=0) as written:
    for file in (file for folder in folders for file in sorted(folder.glob("*.safetensors"))):
        with file.open("rb", buffering=0) as opened:
            while size := opened.readinto(buffer):
                left -= written.write(buffer[: min(size, left)])
    os.fsync(written.fileno())
"""
"""Reads the checkpoints and writes as many bytes as the first has."""


_WITH_DENSITY = (
    "ties", "dare_ties", "dare_linear", "breadcrumbs", "breadcrumbs_ties", "della", "della_linear",
)  # fmt: skip


def configurations(base: str, a: str, b: str) -> dict[str, dict[str, Any]]:
    """mergekit's YAML of every method that both have, by its name."""
    both = [{"model": name, "parameters": {"weight": 1.0}} for name in (a, b)]
    kept = [{"model": name, "parameters": {"weight": 1.0, "density": 0.2}} for name in (a, b)]
    plain, one = [{"model": a}, {"model": b}], [{"model": a}]
    on_base: dict[str, dict[str, Any]] = {
        "task_arithmetic": {"models": both},
        **{name: {"models": kept} for name in _WITH_DENSITY},
        "nuslerp": {"models": both},
        "multislerp": {"models": both},
        "model_stock": {"models": plain},
        "nearswap": {"models": one, "parameters": {"t": 0.001}},
        "arcee_fusion": {"models": one},
        "sce": {"models": plain, "parameters": {"select_topk": 0.1}},
        "ram": {"models": plain},
        "ramplus_tl": {"models": plain},
    }
    without: dict[str, dict[str, Any]] = {
        "linear": {"models": both},
        "karcher": {"models": plain},
        "passthrough": {"models": one},
        "slerp": {"base_model": a, "models": plain, "parameters": {"t": 0.3}},
    }
    found = {name: {"base_model": base, **fields} for name, fields in on_base.items()} | without
    return {
        name: {"merge_method": name, **fields, "dtype": "bfloat16"}
        for name, fields in found.items()
        if name in METHODS
    }


@dataclass(frozen=True)
class Versus:
    """The best run of raylab and of mergekit at one method; mergekit None where it is not run."""

    method: str
    ours: Run
    theirs: Run | None


def versus(
    method: str, config: Mapping[str, Any], work: Path, mergekit: Path | None, turns: int
) -> Versus:
    """Run both on the same YAML, in turn."""
    file, out = work / f"{method}.yaml", work / "out"
    file.write_text(json.dumps(config))  # JSON is YAML.
    commands = {"ours": [RAYLAB, "merge", "--config", str(file), "--out", str(out)]}
    if mergekit:
        commands["theirs"] = [str(mergekit), str(file), str(out), "--no-copy-tokenizer"]
    runs: dict[str, list[Run]] = {who: [] for who in commands}
    for turn in range(turns):
        # Who comes first finds the other's output still on its way to the disk.
        for who in sorted(commands, reverse=bool(turn % 2)):
            os.sync()
            runs[who].append(measured(commands[who]))
            shutil.rmtree(out)
    theirs = best(runs["theirs"]) if mergekit else None
    return Versus(method, best(runs["ours"]), theirs)


def large(work: Path, base: Path, tuned: Path) -> Iterator[str]:
    """A pair of checkpoints by TIES, beside reading and writing once."""
    out, ours = work / "copied", work / "merged"
    forget(base, tuned)
    copied = measured(python(COPY, out, base, tuned))
    out.unlink()
    forget(base, tuned)
    command = [RAYLAB, "merge", "ties", "--base", str(base), "--model", str(tuned)]
    run = measured([*command, "--out", str(ours)])
    shutil.rmtree(ours)
    size = f"{bytes_of(base, tuned) / 1e9:.1f} GB"
    yield "| what | s (CPU s) | anonymous | resident | |"
    yield "|---|---:|---:|---:|---|"
    yield f"| read {size}, write half of it | {costs(copied)} | |"
    ratio = f"{run.seconds / copied.seconds:.2f} times reading and writing once"
    yield f"| raylab merge ties | {costs(run)} | {ratio} |"


def costs(run: Run) -> str:
    """The cells of one run."""
    time = f"{run.seconds:.1f} ({run.processor:.1f})"
    return f"{time} | {run.memory / 1e6:.0f} MB | {run.resident / 1e6:.0f} MB"


def line(found: Versus) -> str:
    """One line of the table."""
    if found.theirs is None:
        return f"| {found.method} | {costs(found.ours)} | | | | |"
    time = f"1/{found.theirs.seconds / found.ours.seconds:.1f}"
    memory = f"1/{found.theirs.memory / found.ours.memory:.1f}"
    resident = f"1/{found.theirs.resident / found.ours.resident:.1f}"
    ratios = f"{time} | {memory}, {resident}"
    return f"| {found.method} | {costs(found.ours)} | {costs(found.theirs)} | {ratios} |"


def lines(work: Path, options: argparse.Namespace) -> Iterator[str]:
    """The tables, a line at a time."""
    if options.large is not None:
        made = ((work / name, options.large_model, seed) for seed, name in enumerate(("base", "a")))
        yield from large(work, *(options.large or [write_checkpoint(*each) for each in made]))
        return
    model = replace(options.model, layers=options.layers or options.model.layers)
    base, a, b = (write_checkpoint(work / name, model, i) for i, name in enumerate(("base", *"ab")))
    yield (
        "| method | raylab: s (CPU s) | anonymous | resident | mergekit: s (CPU s) | anonymous |"
        " resident | time | memory: anonymous, resident |"
    )
    yield "|---|" + "---:|" * 8
    for method, config in configurations(*map(str, (base, a, b))).items():
        if not options.methods or method in options.methods:
            yield line(versus(method, config, work, options.mergekit, options.turns))


def parsed(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The options."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--methods", nargs="*", help="these alone")
    parser.add_argument("--turns", type=int, default=1, help="runs of each; the fastest counts")
    parser.add_argument("--layers", type=int, help="layers of the checkpoints (16: 0.5 B)")
    parser.add_argument("--directory", type=Path, help="where models are made, and deleted")
    parser.add_argument(
        "--large",
        type=Path,
        nargs="*",
        metavar="MODEL",
        help="only a pair of 7 B: this base model and model, or 27 GB that are made",
    )
    known = os.environ.get("RAYLAB_MERGEKIT")
    parser.add_argument(
        "--mergekit", type=Path, default=known and Path(known),
        help="its bin/mergekit-yaml; RAYLAB_MERGEKIT names it as well",
    )  # fmt: skip
    parser.set_defaults(model=HALF_B, large_model=SEVEN_B)
    return parser.parse_args(arguments)


def bench(options: argparse.Namespace) -> None:
    """Print the tables as they come."""
    with tempfile.TemporaryDirectory(prefix="bench-", dir=options.directory) as work:
        for text in lines(Path(work), options):
            print(text, flush=True)
    named = ", ".join(f"{key} {value}" for key, value in machine().items())
    print(f"\nMeasured on: {named}.")


if __name__ == "__main__":
    bench(parsed(sys.argv[1:]))
