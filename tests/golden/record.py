"""Record the results of raylab: python tests/golden/record.py FOLDER [--only PART ...].

The parts, each one JSON document of FOLDER:

- inputs: SHA-256 of the models that the other parts read;
- study: the quick study of the demo, its tables, adapters, records and file names; status, plan and
  tables of it on the command line; differences of its trials;
- views: the same study with all views and a merge, after its trials are trained;
- diff: `raylab diff` of checkpoints, adapters and chained trials, in every view and way;
- merge: `raylab merge`, SHA-256 of every tensor;
- plan: `raylab plan` of the demo's study, and `raylab schema`.

raylab is called by its command line alone, so that a recording holds across any change of its
modules. Short commands share a process, which saves the time of imports. The code that runs is that
of PYTHONPATH, otherwise of this repository. Recordings hold on one machine: sums of products differ
in their last bits between kinds of CPU.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from tests.golden.inputs import sha256, write_inputs  # noqa: E402
from tests.golden.outputs import Outputs, file_names, weights  # noqa: E402

PARTS = ("inputs", "study", "views", "diff", "merge", "plan")
SEVERAL = """
import contextlib, io, json, sys, traceback
from raylab.cli import main
answers = sys.stdout
for line in sys.stdin:
    status, out, err = 0, io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            main(json.loads(line))
        except SystemExit as end:
            status = end.code or 0
        except BaseException:
            traceback.print_exc()
            status = 1
    print(json.dumps([status, out.getvalue(), err.getvalue()]), file=answers, flush=True)
"""
"""Runs commands, each a JSON list of words in a line, and answers with status, stdout, stderr."""
LIBRARIES = ("torch", "numpy", "numba", "scipy", "transformers", "peft", "trl", "ray")

DIFFS = """
one two
one two --view merged
one two --view dequantized
one two --base base
one two --base base --view merged
one two --base base --view dequantized
one two --base base --universe model
one two --base base --out
one two --out
one two --out --threads 1
one two --threads 1
one two --density 0.001 --density 0.29 --density 0.999
base two
one part
one part --missing skip
one short --mismatch crop
one short --mismatch skip
one holes
one holes --non-finite skip
one holes --non-finite skip --base base --out
wide-a wide-b
wide-a wide-b --out
wide-a wide-b --base wide-base
wide-a wide-b --non-finite skip --density 0.1 --density 0.7
first second
first second --base base
first second --base base --view merged
first second --base base --view dequantized
first second --base base --universe model
first second --out
first one --base base
store#one store#two --view merged
store#one store#two --view dequantized
store#one store#demo.child --view dequantized
store#demo.first store#demo.second
store#demo.first store#demo.second --view merged
store#demo.first store#demo.second --view dequantized
store#demo.first store#demo.second --view merged --out
store#demo.first store#demo.child
store#demo.first store#demo.child --view merged
store#demo.first store#demo.child --view dequantized
store#demo.child store#demo
store#demo.child store#demo --view merged --base base
store#demo.child store#demo --view dequantized --out
store#demo.second store#demo.child --base base --universe model
"""
"""`raylab diff A B ...`, one a line; --out stands for a new folder."""

MERGES = """
ties --base base --model one --model two
ties --base base --model one --model two --weight 1 --weight 0.5 --scope tensor --density 0.3
task_arithmetic --base base --model one --model store#demo.child --lambda 0.7
dare_ties --base base --model one --model two --density 0.4 --seed 7
dare_linear --base base --model first --model second --density 0.5 --seed 3
linear --model one --model two --weight 1 --weight 3
ties --base wide-base --model wide-a --model wide-b --density 0.1
"""
"""`raylab merge ... --out`, one a line."""


BUSY = "timed out during startup"
"""Ray's message where the machine was too busy to start it within 30 seconds."""


class Answer(NamedTuple):
    """How one command ended, and its stdout and stderr."""

    status: int
    printed: str
    message: str


@dataclass(frozen=True)
class Recorder:
    """Calls raylab in the folder `work`, which holds the inputs."""

    work: Path
    outputs: Outputs

    def call(self, commands: Sequence[str]) -> list[Answer]:
        """The answer of each command, one after the other in one process.

        An error is shown, as it may not be meant.
        """
        asked = "".join(json.dumps(words.split()) + "\n" for words in commands)
        done = subprocess.run(
            [sys.executable, "-c", SEVERAL],
            input=asked,
            cwd=self.work,
            env=_environment(self.work),
            capture_output=True,
            text=True,
            check=False,
        )
        lines = [line for line in done.stdout.splitlines() if line.startswith("[")]
        answers = [Answer(*json.loads(line)) for line in lines]
        # The process ended within a command: that one and those after it have no answer.
        answers += [Answer(done.returncode, "", done.stderr)] * (len(commands) - len(answers))
        for words, (status, _, message) in zip(commands, answers, strict=True):
            if status:
                said = message.strip().splitlines() or [""]
                last = said[-1] if "Traceback" in message else said[0]
                print(f"exit status {status}: raylab {words}: {last}", flush=True)
        return answers

    def run(self, words: str) -> int:
        """The exit status of `raylab run`. Raises RuntimeError where Ray cannot start."""
        for seconds in (10, 20, 40, 80):
            (answer,) = self.call([f"run {words}"])
            if BUSY not in answer.message:
                return answer.status
            time.sleep(seconds)
        raise RuntimeError("the machine is too busy for Ray to start; record this part again")

    def document(self, answer: Answer) -> dict[str, Any]:
        """Exit status of one command, and the JSON document that it printed."""
        document = self.outputs.plain(json.loads(answer.printed)) if not answer.status else None
        return {"status": answer.status, "document": document}

    def lines(self, answer: Answer) -> dict[str, Any]:
        """Exit status of one command, and the lines that it printed, numbered."""
        lines = enumerate(self.outputs.text(answer.printed).splitlines(), 1)
        return {"status": answer.status, "lines": {f"line {n}": line for n, line in lines}}

    def diffs(self, cases: Mapping[int, str]) -> dict[str, Any]:
        """Lines of DIFFS by number."""
        outs = {number: self.work / f"diff-{number}" for number in cases}
        commands = [
            f"diff {words} --json".replace("--out", f"--out {outs[number].name}")
            for number, words in cases.items()
        ]
        found = {}
        for (number, words), answer in zip(cases.items(), self.call(commands), strict=True):
            out, found[words] = outs[number], self.document(answer)
            if out.exists():
                found[words]["files"] = file_names(out)
                found[words]["tables"] = self.outputs.tables(out / "tables")
                found[words]["diff.json"] = self.outputs.json(out / "diff.json")
        return found

    def merges(self, cases: Mapping[int, str]) -> dict[str, Any]:
        """Lines of MERGES by number."""
        commands = [f"merge {words} --out merge-{number}" for number, words in cases.items()]
        found: dict[str, Any] = {}
        for (number, words), answer in zip(cases.items(), self.call(commands), strict=True):
            out, found[words] = self.work / f"merge-{number}", {"status": answer.status}
            if out.exists():
                found[words]["files"] = file_names(out)
                found[words]["weights"] = weights(out)
                found[words]["merge.json"] = self.outputs.json(out / "merge.json")
        return found

    def study(self) -> dict[str, Any]:
        """The quick study, trained."""
        study, out = "demo/study-quick.yaml --out quick", self.work / "quick"
        (before,) = self.call([f"plan {study} --json"])
        status = self.run(study)
        pair = "quick#demo.sft-d1.s42 quick#demo.dpo-d0-after-sft-d1.s42"
        views = ("delta", "merged", "dequantized")
        layers = "--filter level=layer --filter density=0.2 --sort -cosine"
        tables = (
            "norms quick",
            "densities quick",
            f"pairs quick {layers} --column key --column cosine",
        )
        answers = self.call(
            [f"plan {study} --json", f"status {study} --json"]
            + [f"diff {pair} --view {view} --json" for view in views]
            + [f"table {table} --format csv" for table in tables]
        )
        after, shown = map(self.document, answers[:2])
        return {
            "status": status,
            **self._results(out),
            "plan before": self.document(before),
            "plan after": after,
            "status --json": shown,
            "diff": dict(zip(views, map(self.document, answers[2:5]), strict=True)),
            "table": dict(zip(tables, map(self.lines, answers[5:]), strict=True)),
        }

    def views(self) -> dict[str, Any]:
        """The study with all views and a merge, in a copy of the quick study's results."""
        out = self.work / "views"
        shutil.copytree(self.work / "quick", out)
        status = self.run("demo/study-views.yaml --out views")
        return {"status": status, **self._results(out)}

    def _results(self, out: Path) -> dict[str, Any]:
        folders = sorted((out / "trials").glob("*"))
        return {
            "files": file_names(out),
            "tables": self.outputs.tables(out / "tables"),
            "findings": self.outputs.tables(out / "report" / "findings"),
            "adapters": {
                f"{folder.name}/{kind}": weights(folder / kind)
                for folder in folders
                for kind in ("adapter", "merged")
                if (folder / kind).is_dir()
            },
            "histories": {
                folder.name: self.outputs.tables(folder)["history"]
                for folder in folders
                if (folder / "history.parquet").exists()
            },
            "records": {
                folder.name: self.outputs.json(folder / "record.json")
                for folder in folders
                if (folder / "record.json").exists()
            },
        }

    def plan(self) -> dict[str, Any]:
        """The demo's study as planned, and the schema of a study."""
        answers = self.call(["plan demo/study.yaml --out nowhere --json", "schema"])
        return dict(zip(("plan", "schema"), map(self.document, answers), strict=True))

    def inputs(self) -> dict[str, str]:
        """SHA-256 of every input file."""
        files = [file for file in sorted(self.work.rglob("*")) if file.is_file()]
        store = self.work / "store"  # its study file holds an address
        return {
            file.relative_to(self.work).as_posix(): sha256(file)
            for file in files
            if store not in file.parents
        }


def _environment(work: Path) -> dict[str, str]:
    """The environment of raylab: the code that is asked for, and no cache of an earlier run."""
    given = os.environ.get("PYTHONPATH")
    paths = (
        [str(Path(path).resolve()) for path in given.split(os.pathsep)] if given else [str(ROOT)]
    )
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(paths),
        "HF_HUB_OFFLINE": "1",
        "HF_HOME": str(work / "cache"),
        "RAYLAB_SCRATCH": str(work / "scratch"),
        "TOKENIZERS_PARALLELISM": "false",
    }


def _about(work: Path) -> dict[str, Any]:
    """The code and the machine. Two recordings can be compared only where the machine is one."""
    words = [sys.executable, "-c", "import raylab; print(raylab.__path__[0])"]
    found = subprocess.run(
        words, cwd=work, env=_environment(work), capture_output=True, text=True, check=True
    )
    code = Path(found.stdout.strip())
    commit = subprocess.run(
        ["git", "-C", str(code), "describe", "--always", "--dirty", "--abbrev=12"],
        capture_output=True,
        text=True,
        check=False,
    )
    cpu = Path("/proc/cpuinfo")
    names = cpu.read_text().splitlines() if cpu.exists() else []
    models = {line.partition(":")[2].strip() for line in names if line.startswith("model name")}
    return {
        "code": str(code),
        "commit": commit.stdout.strip(),
        "cpu": ", ".join(sorted(models)) or platform.processor(),
        "python": platform.python_version(),
        "libraries": {name: version(name) for name in LIBRARIES},
    }


def _write(folder: Path, part: str, value: Any) -> None:
    text = json.dumps(value, ensure_ascii=False, indent=1)
    (folder / f"{part}.json").write_text(text + "\n", encoding="utf-8")


def _in_groups(
    pool: ThreadPoolExecutor,
    cases: str,
    record_group: Callable[[Mapping[int, str]], dict[str, Any]],
    groups: int,
) -> Callable[[], dict[str, Any]]:
    """Start the cases, one a line, in groups side by side; their results in the order of lines."""
    lines = dict(enumerate(cases.strip().splitlines()))
    parts = [{n: lines[n] for n in lines if n % groups == group} for group in range(groups)]
    started = [pool.submit(record_group, part) for part in parts if part]

    def results() -> dict[str, Any]:
        found = {words: made for one in started for words, made in one.result().items()}
        return {words: found[words] for words in lines.values()}

    return results


def record(folder: Path, parts: Sequence[str], work: Path, workers: int) -> None:
    """Record the parts named; `workers` processes run at a time."""
    write_inputs(work, ROOT / "jobs" / "demo")
    recorder = Recorder(work, Outputs({str(work): "WORK"}))
    _write(folder, "about", _about(work))
    if "inputs" in parts:
        _write(folder, "inputs", recorder.inputs())

    def study_and_views() -> None:
        study = recorder.study()
        if "study" in parts:
            _write(folder, "study", study)
        if "views" in parts:
            _write(folder, "views", recorder.views())

    with ThreadPoolExecutor(workers) as pool:
        started: dict[str, Callable[[], Any]] = {}
        if {"study", "views"} & set(parts):
            trained = pool.submit(study_and_views)
        if "plan" in parts:
            started["plan"] = pool.submit(recorder.plan).result
        if "merge" in parts:
            started["merge"] = _in_groups(pool, MERGES, recorder.merges, workers)
        if "diff" in parts:
            started["diff"] = _in_groups(pool, DIFFS, recorder.diffs, workers)
        for part, result in started.items():
            _write(folder, part, result())
        if {"study", "views"} & set(parts):
            trained.result()


def main() -> None:
    """Record into the folder of the command line."""
    formatter = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=formatter)
    parser.add_argument("folder", type=Path, metavar="FOLDER")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS, metavar="PART")
    parser.add_argument("--workers", type=int, default=len(os.sched_getaffinity(0)))
    asked = parser.parse_args()
    asked.folder.mkdir(parents=True, exist_ok=True)
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="golden-") as work:
        record(asked.folder, tuple(asked.only), Path(work).resolve(), asked.workers)
    print(f"{', '.join(asked.only)}: {asked.folder}, {time.monotonic() - started:.0f} s")


if __name__ == "__main__":
    main()
