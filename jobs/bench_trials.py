"""What raylab costs around a training: `python jobs/bench_trials.py [--parts gaps slots]`.

Trains the demo's base model on the CPU in a temporary directory (`bench_training` holds the
studies and scripts) and prints, as a Markdown table, measured in one call (`bench_measure` says
how):

- The same training by a script with trl alone and by raylab, in turns, the best of each. Whole
  commands; inside, after the imports (loading, training, all that is written); and what the
  trainer itself says of its training, with the checkpoints that raylab takes in it.
- From one trial's end to the end of the next one's first step on a warm worker, less one step.
- Eight trials of a DAG on two slots: from the first one's start to the last one's end, and the
  share of that in which slots had no trial, beside what `raylab plan --gpus 2` would foresee had
  it known how long each trial took.
- A thousand trials: `raylab plan`, and the driver alone (not Ray's daemons, not the workers)
  until its first trial has ended, beside a driver of four trials.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

from bench_measure import Run, measured, python
from bench_reduce import RAYLAB, Row, machine, table
from bench_training import BARE, BATCH, DEMO, EIGHT, FIRST, FOUR, ONE, OURS, write_study

from raylab.parquet import read_parquet
from raylab.plan.schedule import simulate
from raylab.plan.trials import Trial, plan_trials, read_inputs
from raylab.spec.study_file import load_study
from raylab.store.filesystem import Store
from raylab.store.records import HISTORY, read_attempts, read_record, trial_key
from raylab.store.tables import rows_of

LIBRARIES = ("torch", "transformers", "trl", "peft", "bitsandbytes", "ray")
SLOTS = 2


@dataclass(frozen=True)
class Trained:
    """One child that trained: the whole command, seconds inside, the trainer's own, its adapter."""

    run: Run
    inside: float
    training: float
    steps: int
    adapter: bytes


@dataclass(frozen=True)
class Timed:
    """One trial of a study, in seconds: when it began since 1970, what it took, its first step."""

    name: str
    started: float
    seconds: float
    first_step: float
    step: float

    @property
    def end(self) -> float:
        """When it ended, in seconds since 1970."""
        return self.started + self.seconds


def bare(out: Path, epochs: float, base: Path) -> Trained:
    """The training by trl alone."""
    data = DEMO / "data" / "d0.jsonl"
    run = measured(python(BARE, base, data, out, epochs, 1))
    inside, training, steps = json.loads(run.output.splitlines()[-1])
    return Trained(run, inside, training, steps, (out / "adapter_model.safetensors").read_bytes())


def ours(out: Path, epochs: float, base: Path) -> Trained:
    """The same by raylab."""
    study = write_study(out.with_suffix(".yaml"), ONE, epochs, base=base)
    run = measured(python(OURS, study, out))
    (folder,) = (out / "trials").iterdir()
    training, steps = trainer_says(Store(str(out)), folder.name)
    adapter = (folder / "adapter" / "adapter_model.safetensors").read_bytes()
    return Trained(run, float(run.output.splitlines()[-1]), training, steps, adapter)


def trainer_says(store: Store, folder: str) -> tuple[float, int]:
    """(seconds, steps) of a trial's training, as the trainer logged them in the end."""
    history = rows_of(read_parquet(Path(store.path(trial_key(folder, HISTORY)))))
    (seconds,) = (row["train_runtime"] for row in history if row["train_runtime"] is not None)
    return seconds, int(max(row["step"] for row in history))


def epochs_for(seconds: float, base: Path, work: Path) -> float:
    """How many epochs take the bare script about so long in training."""
    examples = len((DEMO / "data" / "d0.jsonl").read_text().splitlines())
    tried = bare(work / "tried", 0.25, base)
    return max(1, round(seconds / tried.training * tried.steps)) / math.ceil(examples / BATCH)


def overhead_rows(work: Path, seconds: float, repeat: int, base: Path) -> Iterator[Row]:
    epochs = epochs_for(seconds, base, work)
    plain, mine = [], []
    for turn in range(repeat):
        plain.append(bare(work / f"bare{turn}", epochs, base))
        mine.append(ours(work / f"ours{turn}", epochs, base))
    yield from compared(plain, mine)


def compared(plain: Sequence[Trained], mine: Sequence[Trained]) -> Iterator[Row]:
    """A row for each span and side: the best of the side's runs, and what raylab adds to it."""
    same = len({each.adapter for each in (*plain, *mine)}) == 1
    bytes_are = "all adapters have the same bytes" if same else "THE ADAPTERS DIFFER"
    spans: dict[str, Callable[[Trained], float]] = {
        "whole command": lambda each: each.run.seconds,
        "after the imports": lambda each: each.inside,
        "the trainer's own seconds": lambda each: each.training,
    }
    for what, span in spans.items():
        theirs, taken = min(map(span, plain)), min(map(span, mine))
        is_whole = what == "whole command"
        memory = [max(t.run.memory for t in side) if is_whole else None for side in (plain, mine)]
        steps = f"{plain[0].steps} steps; {bytes_are}" if is_whole else ""
        yield Row(f"trl alone, {what}", theirs, memory[0], steps)
        yield Row(f"raylab, {what}", taken, memory[1], f"{taken / theirs - 1:+.1%}")


def trained(work: Path, study: Path) -> tuple[list[Timed], list[Trial]]:
    """`raylab train` of a study, and the times that it left in the store."""
    out = work / study.stem
    # Looking at the many threads of Ray every 5 ms would slow down what is timed.
    measured([RAYLAB, "train", str(study), "--out", str(out)], alone=True)
    loaded = load_study(study)
    trials = plan_trials(loaded, read_inputs(loaded))
    return [timed(Store(str(out)), trial) for trial in trials], trials


def timed(store: Store, trial: Trial) -> Timed:
    attempt, record = read_attempts(store, trial.folder)[-1], read_record(store, trial.folder)
    assert record, "every trial of a bench is done"
    seconds, steps = trainer_says(store, trial.folder)
    first = record.metrics["first_step_seconds"]
    return Timed(trial.name, attempt.started, attempt.seconds, first, seconds / steps)


def gap_rows(work: Path, epochs: float, base: Path) -> Iterator[Row]:
    """Six trials on one slot, which takes all of the machine's cores."""
    cores = len(os.sched_getaffinity(0))
    seeds = range(1, 7)
    study = write_study(work / "one-slot.yaml", ONE, epochs, seeds=seeds, cpus=cores, base=base)
    found, _ = trained(work, study)
    between, beginning = gaps(found)
    whole = [a + b for a, b in zip(between, beginning, strict=True)]
    yield Row(
        "one trial's end to the next one's first step, median",
        median(whole),
        None,
        f"at most {max(whole):.2f} s of {len(whole)}; {median(between):.3f} s of it until the next "
        f"begins, and {median(beginning):.2f} s for loading, tokens and the trainer",
    )


def gaps(found: Sequence[Timed]) -> tuple[list[float], list[float]]:
    """(from each end to the next start, from that start to its first step without the step)."""
    ordered = sorted(found, key=lambda trial: trial.started)
    between = [b.started - a.end for a, b in pairwise(ordered)]
    return between, [trial.first_step - trial.step for trial in ordered[1:]]


def slot_rows(work: Path, epochs: float, base: Path) -> Iterator[Row]:
    """A DAG of eight trials on two slots, and its simulation."""
    cpus = max(1, len(os.sched_getaffinity(0)) // SLOTS)
    study = write_study(work / "two-slots.yaml", EIGHT, epochs, cpus=cpus, base=base)
    found, trials = trained(work, study)
    yield from scheduled(found, {trial.name: trial.parent for trial in trials})


def scheduled(found: Sequence[Timed], parents: Mapping[str, str | None]) -> Iterator[Row]:
    makespan = max(trial.end for trial in found) - min(trial.started for trial in found)
    idle = 1 - sum(trial.seconds for trial in found) / (SLOTS * makespan)
    foreseen = simulate(parents, {trial.name: trial.seconds for trial in found}, SLOTS)
    yield Row(f"{len(found)} trials on {SLOTS} slots", makespan, None, f"{idle:.1%} idle")
    yield Row(
        "the same as `raylab plan` simulates it",
        foreseen.makespan,
        None,
        f"{foreseen.idle:.1%} idle; no schedule ends before {foreseen.bound:.3g} s",
    )


def many_rows(work: Path, count: int, base: Path) -> Iterator[Row]:
    few = write_study(work / "few.yaml", FOUR, 0.25, base=base)
    many = write_study(work / "many.yaml", FOUR, 0.25, seeds=range(count // len(FOUR)), base=base)
    plan = measured([RAYLAB, "plan", str(many), "--out", str(work / "none"), "--gpus", "8"])
    yield Row(f"raylab plan --gpus 8, {count} trials", plan.seconds, plan.memory)
    memory = []
    for study, trials in ((few, len(FOUR)), (many, count)):
        run = measured(python(FIRST, study, work / study.stem, SLOTS), alone=True)
        memory.append(run.memory)
        remark = f"{memory[-1] / memory[0] - 1:+.1%}" if memory[1:] else ""
        yield Row(f"driver of {trials} trials until one has ended", run.seconds, run.memory, remark)


PARTS: dict[str, Callable[[Path, argparse.Namespace], Iterator[Row]]] = {
    "overhead": lambda work, asked: overhead_rows(work, asked.seconds, asked.repeat, asked.base),
    "gaps": lambda work, asked: gap_rows(work, asked.epochs / 4, asked.base),
    "slots": lambda work, asked: slot_rows(work, asked.epochs, asked.base),
    "many": lambda work, asked: many_rows(work, asked.trials, asked.base),
}


def bench(options: argparse.Namespace) -> None:
    with tempfile.TemporaryDirectory(prefix="bench-", dir=options.directory) as work:
        os.environ["RAYLAB_SCRATCH"] = f"{work}/scratch"
        rows = []
        for row in (row for part in options.parts for row in PARTS[part](Path(work), options)):
            rows.append(row)
            print(f"{row.what}: {row.seconds:.3g} s  {row.remark}", file=sys.stderr, flush=True)
    where: dict[str, Any] = machine(LIBRARIES)
    if options.json:
        print(json.dumps({"machine": where, "rows": [asdict(row) for row in rows]}, indent=1))
    else:
        named = ", ".join(f"{key} {value}" for key, value in where.items())
        print(f"{table(rows)}\n\nMeasured on: {named}.")


def parsed(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="What raylab costs around a training.")
    parser.add_argument("--seconds", type=float, default=60, help="of the training by trl alone")
    parser.add_argument("--repeat", type=int, default=2, help="the best of so many turns")
    parser.add_argument("--epochs", type=float, default=0.75, help="of the trials on two slots")
    parser.add_argument("--trials", type=int, default=1000, help="of the large study")
    parser.add_argument("--parts", nargs="+", choices=[*PARTS], default=[*PARTS])
    parser.add_argument("--directory", type=Path, help="where all is written, and deleted")
    parser.add_argument("--json", action="store_true", help="one JSON document")
    parser.set_defaults(base=DEMO / "base")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    bench(parsed())
