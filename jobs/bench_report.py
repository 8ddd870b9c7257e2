"""What a report costs: `python jobs/bench_report.py [--before CHECKOUT --study FILE --out OUT]`.

Prints a Markdown table of whole commands `raylab report`, imports included: seconds, seconds of
all processors, and the peak of resident memory, libraries included.

- With --before, the study's report by the code of another checkout and by this one, in turns, out
  of copies of one store; the remark is the ratio of the best of each.
- A study of 200 trials that is made up here: two methods, five data sets, two learning rates and
  ten seeds, with every two of their models compared. Its page is weighed, too.
"""

from __future__ import annotations

import argparse
import itertools
import math
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from command_cost import Cost, best, command

from raylab.store.filesystem import Store
from raylab.store.schemas import SCHEMAS
from raylab.store.tables import to_parquet

HERE = Path(__file__).parents[1]
LAYERS, KINDS = 12, ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
METHODS, DATA, RATES, SEEDS = (
    ("sft", "dpo"),
    ("D0", "D1", "D2", "D3", "D4"),
    (1e-5, 1e-4),
    range(10),
)
BASE, ENTRIES, PROMPTS = "base", 32, 32
STUDY = """
name: made-up
base_models: {base: {hub: made/up}}
data: {D0: {path: rows.jsonl}}
recipes:
  sft-D0: {method: sft, data: D0, sweep: {learning_rate: [1e-5, 1e-4]}}
"""


def report(code: Path, study: Path, out: Path) -> Cost:
    """`raylab report` by the code in a checkout. Ends the bench with its words where it fails."""
    return command(code, ["report", str(study), "--out", str(out)], out)


def made_up(out: Path) -> Path:
    """Write the tables of 200 trials below `out`; the study's file."""
    chance = np.random.default_rng(2)
    rows = list(itertools.product(METHODS, DATA, RATES, SEEDS))
    names = [f"{BASE}.{m}-{d}.learning_rate={rate:g}.s{seed}" for m, d, rate, seed in rows]
    parts: dict[Any, np.ndarray] = {}

    def part(key: Any) -> np.ndarray:
        return parts.setdefault(key, chance.standard_normal((LAYERS, len(KINDS), ENTRIES)))

    vectors = np.stack([
        (part(m) + part(d) + part((m, d, rate)) + 2 * chance.standard_normal(part(m).shape))
        * (5 if rate > 5e-5 else 1)
        for m, d, rate, _ in rows
    ])  # fmt: skip
    store = Store(str(out))
    for name, columns in _tables(rows, names, vectors, chance):
        schema = SCHEMAS[name]
        length = len(next(iter(columns.values())))
        arrays = [
            pa.array(columns[field.name], field.type)
            if field.name in columns
            else pa.nulls(length, field.type)
            for field in schema
        ]
        table = pa.Table.from_arrays(arrays, schema=schema)
        store.write(f"tables/{name}.parquet", to_parquet(table))
    study = out / "study.yaml"
    study.write_text(STUDY)
    return study


def _tables(
    rows: list[Any], names: list[str], vectors: np.ndarray, chance: np.random.Generator
) -> Iterator[tuple[str, Mapping[str, Any]]]:
    count = len(names)
    methods, data, rates, seeds = zip(*rows, strict=True)
    flat = vectors.reshape(count, -1)
    yield "trials", {
        "trial_id": [f"{place:016x}" for place in range(count)], "name": names,
        "model": [BASE] * count,
        "recipe": [name.partition(".")[2].rpartition(".")[0] for name in names],
        "label": [f"{m.upper()}({d})" for m, d in zip(methods, data, strict=True)],
        "method": methods, "data": data, "learning_rate": rates, "seed": seeds,
        "status": ["done"] * count, "attempts": [1] * count, "seconds": [60.0] * count,
        "l1": np.abs(flat).sum(1), "l2": np.linalg.norm(flat, axis=1),
        "train_loss": chance.uniform(1, 2, count), "eval_loss": chance.uniform(1, 2, count),
        "marked": [False] * count,
    }  # fmt: skip
    a, b = np.triu_indices(count, 1)
    head = {"a": np.array(names)[a], "b": np.array(names)[b]}
    keys = [("all", "all"), *(("layer", str(n)) for n in range(LAYERS)),
            *(("module", kind) for kind in KINDS)]  # fmt: skip
    members = [vectors, *(vectors[:, n] for n in range(LAYERS)),
               *(vectors[:, :, n] for n in range(len(KINDS)))]  # fmt: skip
    yield "norms", _norms(names, keys, members)
    yield "pairs", _pairs(head, keys, members, (a, b))
    overlap = chance.uniform(0.1, 0.6, 2 * len(a))
    twice = {name: np.tile(of, 2) for name, of in head.items()}
    size = 2 * len(a)
    yield "subspaces", {
        **twice, "view": ["delta"] * size, "level": ["all"] * size, "key": ["all"] * size,
        "side": ["output"] * len(a) + ["input"] * len(a), "energy": [1.0] * size, "k": [8] * size,
        "overlap": overlap, "chance": [0.05] * size, "tensors": [LAYERS * len(KINDS)] * size,
    }  # fmt: skip
    divergence = chance.uniform(0.1, 3, len(a))
    yield "functions", {
        **head, "data": ["D0"] * len(a), "answers": ["held_out"] * len(a),
        "prompts": [32] * len(a), "tokens": [640] * len(a),
        "kl_ab": divergence, "kl_ba": divergence, "js": divergence / 8,
    }  # fmt: skip
    densities = np.geomspace(1e-4, 1, 64)
    yield "curve", {
        "comparison": np.repeat([f"{name}~{BASE}" for name in names], 64),
        "view": ["delta"] * (64 * count), "universe": ["compared"] * (64 * count),
        "density": np.tile(densities, count), "l1_share": np.tile(densities**0.5, count),
        "l2_share": np.tile(densities**0.3, count),
    }  # fmt: skip
    asked = PROMPTS * count
    yield "samples", {
        "trial_id": np.repeat([f"{place:016x}" for place in range(count)], PROMPTS),
        "name": np.repeat(names, PROMPTS),
        "prompt": [f"Question {n % PROMPTS}?" for n in range(asked)],
        "answer": [f"Answer {n}. " + "It is what it is. " * 6 for n in range(asked)],
        "expected": ["An answer."] * asked, "tokens": [24] * asked, "stopped": [True] * asked,
    }  # fmt: skip


def _norms(
    names: list[str], keys: list[tuple[str, str]], members: list[np.ndarray]
) -> Mapping[str, Any]:
    count = len(names)
    flat = [found.reshape(count, -1) for found in members]
    size = count * len(keys)
    return {
        "comparison": [f"{name}~{BASE}" for name in names] * len(keys), "a": names * len(keys),
        "b": [BASE] * size, "view": ["delta"] * size, "universe": ["compared"] * size,
        "level": [level for level, _ in keys for _ in names],
        "key": [key for _, key in keys for _ in names],
        "numel": np.repeat([found.shape[1] for found in flat], count),
        "l1": np.concatenate([np.abs(found).sum(1) for found in flat]),
        "l2": np.concatenate([np.linalg.norm(found, axis=1) for found in flat]),
        "relative_l2": np.concatenate([np.linalg.norm(found, axis=1) / 100 for found in flat]),
    }  # fmt: skip


def _pairs(
    head: Mapping[str, np.ndarray],
    keys: list[tuple[str, str]],
    members: list[np.ndarray],
    places: tuple[np.ndarray, np.ndarray],
) -> Mapping[str, Any]:
    cosines = []
    for found in members:
        flat = found.reshape(len(found), -1)
        flat = flat / np.linalg.norm(flat, axis=1, keepdims=True)
        cosines.append((flat @ flat.T)[places])
    count = len(places[0])
    cosine = np.concatenate(cosines)
    size = count * len(keys)
    return {
        "a": np.tile(head["a"], len(keys)), "b": np.tile(head["b"], len(keys)),
        "view": ["delta"] * size, "universe": ["compared"] * size,
        "level": [level for level, _ in keys for _ in range(count)],
        "key": [key for _, key in keys for _ in range(count)],
        "cosine": cosine, "sign_agreement": 1 - np.arccos(np.clip(cosine, -1, 1)) / math.pi,
        "density": [0.1] * size, "overlap": 0.1 + 0.4 * cosine**2,
        "overlap_by_chance": [0.1] * size,
    }  # fmt: skip


def lines(options: argparse.Namespace) -> Iterator[str]:
    """The table, a line at a time."""
    yield "| what | seconds | processor | memory | |"
    yield "|---|---:|---:|---:|---|"
    with tempfile.TemporaryDirectory(prefix="bench-report-") as work:
        if options.before:
            codes = {"before": options.before.resolve(), "now": HERE}
            costs: dict[str, list[Cost]] = {name: [] for name in codes}
            for name in codes:
                shutil.copytree(options.out, Path(work, name))
            for _, name in itertools.product(range(options.turns), codes):
                costs[name].append(report(codes[name], options.study.resolve(), Path(work, name)))
            before, now = (best(costs[name]) for name in codes)
            ratios = f"{now.seconds / before.seconds:.2f} of the time"
            ratios += f", {now.processor / before.processor:.2f} of the processor's"
            yield line(f"{options.study.stem} before", before)
            yield line(f"{options.study.stem} now", now, ratios)
        out = Path(work, "made-up")
        out.mkdir()
        found = best([report(HERE, made_up(out), out) for _ in range(options.turns)])
        weight = (out / "report" / "report.html").stat().st_size
        yield line("200 trials", found, f"page {weight / 1e6:.2f} MB")


def line(what: str, cost: Cost, remark: str = "") -> str:
    """One line of the table."""
    memory = f"{cost.memory / 1e6:.0f} MB"
    return f"| {what} | {cost.seconds:.1f} | {cost.processor:.1f} | {memory} | {remark} |"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--before", type=Path, help="another checkout of this repository")
    parser.add_argument("--study", type=Path, help="with --before: the file of a study")
    parser.add_argument("--out", type=Path, help="with --before: its store; only a copy is written")
    parser.add_argument("--turns", type=int, default=3)
    given = parser.parse_args()
    if given.before and not (given.study and given.out):
        parser.error("--before needs --study and --out")
    for text in lines(given):
        print(text, flush=True)
