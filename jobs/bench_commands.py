"""What light commands cost: `python jobs/bench_commands.py --before CHECKOUT --out OUT`.

Prints a Markdown table of whole commands, imports included, by the code of another checkout and by
this one, in turns: seconds, seconds of all processors, peak of resident memory, and the ratios.
The processor's seconds are the steadier ones where something else runs beside it.

With --cores 1 every command is pinned to one core: the table beside that of all cores says what a
second one brings.

OUT is a store of jobs/demo/study-quick.yaml; nothing is written there but by `run`, which finds
nothing to do. The study of 50,000 rows and the tiny checkpoints are made up here; `--models BASE A
B` takes checkpoints of any size.
"""

from __future__ import annotations

import argparse
import json
import random
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from bench_models import Llama, write_checkpoint
from command_cost import MERGED, Cost, in_turns

HERE = Path(__file__).resolve().parents[1]
DEMO = HERE / "jobs" / "demo"
QUICK = DEMO / "study-quick.yaml"
WORDS = [
    "model",
    "tensor",
    "cluster",
    "merge",
    "seed",
    "data",
    "learn",
    "rate",
    "question",
    "answer",
    "why",
    "what",
    "how",
]
DENSITIES = ("0.01", "0.05", "0.1", "0.2", "0.5")
NAMES = ("tiny-base", "tiny-a", "tiny-b")
TINY = Llama(hidden=64, intermediate=128, key_value=32, layers=2, vocabulary=256)
STUDY = """
name: made-up
base_models: {{demo: {{path: {base}}}}}
data: {{D0: {{path: D0.jsonl}}, D1: {{path: D1.jsonl}}, both: {{concat: [D0, D1]}}}}
held_out: 0.02
seeds: [42, 43]
quantization: {{compute_dtype: float32}}
evaluation: {{prompts: 8}}
recipes:
  sft-D0: {{method: sft, data: D0}}
  sft-D1: {{method: sft, data: D1}}
  sft-both: {{method: sft, data: both}}
"""


def made_up(directory: Path, rows: int) -> Path:
    """Write a study of two data sets with `rows` rows together, and return its file."""
    chance = random.Random(1)

    def text(length: int) -> str:
        return " ".join(chance.choices(WORDS, k=length))

    for name in ("D0", "D1"):
        with (directory / f"{name}.jsonl").open("w", encoding="utf-8") as file:
            for number in range(rows // 2):
                asked = {"role": "user", "content": f"{number} {text(40)}"}
                answer = {"role": "assistant", "content": text(120)}
                file.write(json.dumps({"messages": [asked, answer]}) + "\n")
    study = directory / "study.yaml"
    study.write_text(STUDY.format(base=DEMO / "base"), encoding="utf-8")
    return study


def of_models(base: Path, a: Path, b: Path) -> Iterator[list[str]]:
    """The words of a difference and of merges of two checkpoints, on the CPU."""
    densities = [word for each in DENSITIES for word in ("--density", each)]
    yield ["diff", str(a), str(b), *densities]
    yield ["diff", str(a), str(b), *densities, "--threads", "1"]
    both = ["--base", str(base), "--model", str(a), "--model", str(b), "--out", MERGED]
    yield ["merge", "task_arithmetic", *both]
    yield ["merge", "ties", *both]


def commands(out: Path | None, many: Path) -> Iterator[list[str]]:
    """The words of every command; those of a store only where there is one."""
    yield ["--help"]
    yield ["schema"]
    yield ["plan", str(DEMO / "study.yaml"), "--out", str(many / "nothing")]
    yield ["plan", str(many / "study.yaml"), "--out", str(many / "nothing")]
    if out:
        yield ["plan", str(QUICK), "--out", str(out)]
        yield ["status", str(QUICK), "--out", str(out)]
        yield ["table", "trials", str(out)]
        yield ["compare", str(out), str(out)]
        yield ["run", str(QUICK), "--out", str(out)]
    made = (write_checkpoint(many / name, TINY, seed) for seed, name in enumerate(NAMES))
    yield from of_models(*made)


def lines(
    before: Path,
    out: Path | None,
    turns: int,
    rows: int,
    models: Sequence[Path] = (),
    cores: int | None = None,
) -> Iterator[str]:
    """The table, a line at a time; of these models (base, A, B) alone where they are given."""
    yield "| command | before: s | CPU s | memory | now: s | CPU s | memory | ratio | of CPU s |"
    yield "|---|---:|---:|---:|---:|---:|---:|---:|---:|"
    codes = {"before": before.resolve(), "now": HERE}
    with tempfile.TemporaryDirectory(prefix="bench-commands-") as work:
        if models:
            asked = of_models(*(model.resolve() for model in models))
        else:
            made_up(Path(work), rows)
            asked = commands(out.resolve() if out else None, Path(work))
        for words in asked:
            found = in_turns(codes, words, Path(work), turns, cores)
            yield line(_called(words, rows), found["before"], found["now"])


def _called(words: Sequence[str], rows: int) -> str:
    if words[0] in ("diff", "merge"):
        return f"{words[0]} {_of_models(words)}"
    study = {"study.yaml": "the demo", "study-quick.yaml": "the quick study"}
    named = study.get(Path(words[1]).name, words[1]) if len(words) > 1 else ""
    if words[0] == "plan" and DEMO not in Path(words[1]).parents:
        named = f"{rows:,} rows"
    return f"{words[0]} {named if words[0] != 'compare' else 'a study with itself'}".strip()


def _of_models(words: Sequence[str]) -> str:
    is_tiny = any(Path(word).name in NAMES for word in words)
    tiny = "tiny models" if is_tiny else ""
    method = words[1] if words[0] == "merge" else ""
    return " ".join(filter(None, (method, tiny, "one thread" * ("--threads" in words))))


def line(what: str, before: Cost, now: Cost) -> str:
    """One line of the table."""
    cells = [
        f"{cost.seconds:.2f} | {cost.processor:.2f} | {cost.memory / 1e6:.0f} MB"
        for cost in (before, now)
    ]
    ratios = f"{now.seconds / before.seconds:.2f} | {now.processor / before.processor:.2f}"
    return f"| {what} | {' | '.join(cells)} | {ratios} |"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--before", type=Path, required=True, help="another checkout")
    parser.add_argument("--out", type=Path, help="a store of the quick study")
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--rows", type=int, default=50_000)
    parser.add_argument("--models", type=Path, nargs=3, default=(), help="only BASE A B")
    parser.add_argument("--cores", type=int, help="pin every command to so many cores")
    given = parser.parse_args()
    asked = (given.before, given.out, given.turns, given.rows, given.models, given.cores)
    for text in lines(*asked):
        print(text, flush=True)
