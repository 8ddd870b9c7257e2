"""Makes every fault of faults.py in a copy of the code, and sees whether the suite catches it.

    python tests/faults/run.py                    all faults; exit status 1 if one is not caught
    python tests/faults/run.py --only TEXT        those whose name holds TEXT; may be repeated
    python tests/faults/run.py --list             the table, without running anything
    python tests/faults/run.py --check            whether every `old` stands once and every test
                                                  exists and passes in the code as it is
    python tests/faults/run.py --markdown FILE    also write the results as a table
    python tests/faults/run.py --jobs N           faults at once (2), each with one thread

A fault is caught when pytest runs its tests and one of them fails (exit status 1). A text that
does not stand once in its file, and a test that is not found or cannot be imported, is an error
of the table, not a catch: the message says where the text or the test is now. Run it with the
Python of the project's environment; `make faults` does.

After a rename: `--check`, mend faults.py by what it says, then run the faults that were mended.
The tests of a row are the quickest that catch it, so that all faults take some five minutes.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from faults import FAULTS, Fault

ROOT = Path(__file__).resolve().parents[2]
COPIED = ("raylab", "tests", "jobs", "docs", "pyproject.toml", "README.md")
LEFT_OUT = shutil.ignore_patterns("__pycache__", ".*_cache", ".hypothesis")
LONGEST = 900
"""Seconds for the tests of one fault; a test that hangs has not caught it."""


class Outcome(NamedTuple):
    """`verdict` is caught, NOT CAUGHT or ERROR; `detail` is the test that failed, or why."""

    verdict: str
    detail: str
    seconds: float


def copy_to(place: Path) -> None:
    for name in COPIED:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, place / name, ignore=LEFT_OUT)
        elif source.exists():
            shutil.copy2(source, place / name)


def files_with(text: str, folder: str) -> list[str]:
    """The Python files below `folder` that hold `text`, relative to it."""
    return [
        path.relative_to(ROOT / folder).as_posix()
        for path in sorted((ROOT / folder).rglob("*.py"))
        if text in path.read_text(encoding="utf-8")
    ]


def problem_of(fault: Fault) -> str | None:
    """Why the row does not fit the code or the tests; None where it does."""
    file = ROOT / "raylab" / fault.file
    count = file.read_text(encoding="utf-8").count(fault.old) if file.is_file() else 0
    if count != 1:
        found = f"the text stands {count} times in raylab/{fault.file}"
        return f"{found}, and is in: {files_with(fault.old, 'raylab')}"
    for test in fault.tests:
        name, _, function = test.partition("::")
        head = f"def {function.partition('[')[0]}(" if function else ""
        path = ROOT / "tests" / name
        if not path.is_file() or head not in path.read_text(encoding="utf-8"):
            places = files_with(head, "tests") if head else []
            return f"there is no tests/{test}; its function is in: {places}"
    return None


def pytest_in(place: Path, tests: Sequence[str]) -> tuple[int, str]:
    """pytest's exit status and output; -1 where it took too long."""
    environment = {
        **os.environ,
        "PYTHONPATH": str(place),
        "PYTHONDONTWRITEBYTECODE": "1",
        "HF_HUB_OFFLINE": "1",
        "OMP_NUM_THREADS": "1",
        "TMPDIR": str(place / "tmp"),
    }
    (place / "tmp").mkdir(exist_ok=True)
    options = ["-x", "-q", "--no-header", "--tb=line", "-p", "no:cacheprovider", "-rf"]
    command = [sys.executable, "-m", "pytest", *options, *(f"tests/{test}" for test in tests)]
    try:
        done = subprocess.run(
            command, cwd=place, env=environment, capture_output=True, text=True, timeout=LONGEST
        )
    except subprocess.TimeoutExpired:
        return -1, f"more than {LONGEST} s"
    return done.returncode, done.stdout + done.stderr


def first_failure(output: str) -> str:
    lines = [line for line in output.splitlines() if line.startswith("FAILED ")]
    return lines[0].removeprefix("FAILED tests/").partition(" - ")[0] if lines else ""


def try_fault(fault: Fault) -> Outcome:
    started = time.monotonic()

    def outcome(verdict: str, detail: str) -> Outcome:
        return Outcome(verdict, detail, time.monotonic() - started)

    if problem := problem_of(fault):
        return outcome("ERROR", problem)
    with tempfile.TemporaryDirectory(prefix="raylab-fault-") as directory:
        place = Path(directory)
        copy_to(place)
        file = place / "raylab" / fault.file
        changed = file.read_text(encoding="utf-8").replace(fault.old, fault.new)
        compile(changed, fault.file, "exec")
        file.write_text(changed, encoding="utf-8")
        status, output = pytest_in(place, fault.tests)
    failed = first_failure(output)
    if status == 1 and failed:
        return outcome("caught", failed)
    if status == 0:
        return outcome("NOT CAUGHT", ", ".join(fault.tests))
    return outcome("ERROR", f"pytest ended with {status}: {output.strip()[-600:]}")


def check(faults: Sequence[Fault]) -> bool:
    """Whether every row fits the code, and all its tests pass without the fault."""
    problems = [f"{fault.name}: {found}" for fault in faults if (found := problem_of(fault))]
    if problems:
        print("\n".join(problems))
        return False
    print("every text stands once in its file, and every test is there")
    with tempfile.TemporaryDirectory(prefix="raylab-fault-") as directory:
        copy_to(Path(directory))
        tests = dict.fromkeys(test for fault in faults for test in fault.tests)
        status, output = pytest_in(Path(directory), list(tests))
    print(output.strip()[-1500:])
    return status == 0


def run(faults: Sequence[Fault], jobs: int, markdown: Path | None) -> bool:
    started, rows, width = time.monotonic(), [], max(len(fault.name) for fault in faults)
    with ThreadPoolExecutor(jobs) as pool:
        for fault, found in zip(faults, pool.map(try_fault, faults), strict=True):
            print(
                f"{found.verdict:<10}  {fault.name:<{width}}  {found.seconds:5.1f} s  "
                f"{found.detail}",
                flush=True,
            )
            rows.append((fault, found))
    caught = sum(found.verdict == "caught" for _, found in rows)
    print(f"{caught} of {len(rows)} caught in {time.monotonic() - started:.0f} s")
    if markdown:
        markdown.write_text(as_markdown(rows), encoding="utf-8")
    return caught == len(rows)


def as_markdown(rows: Sequence[tuple[Fault, Outcome]]) -> str:
    def code(text: str) -> str:
        line = " ".join(text.split()).replace("|", "\\|")
        return f"`{line}`" if line else "(nothing)"

    lines = ["| fault | file | change | caught by | s |", "|---|---|---|---|---|"]
    for fault, found in rows:
        by = f"`{found.detail}`" if found.verdict == "caught" else f"**{found.verdict}**"
        change = f"{code(fault.old)} to {code(fault.new)}"
        lines.append(f"| {fault.name} | {fault.file} | {change} | {by} | {found.seconds:.0f} |")
    return "\n".join(lines) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", action="append", metavar="TEXT")
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--markdown", type=Path, metavar="FILE")
    given = parser.parse_args()
    faults = [f for f in FAULTS if not given.only or any(text in f.name for text in given.only)]
    if not faults:
        parser.error("no fault has such a name")
    if given.list:
        for fault in faults:
            print(f"{fault.name}: {fault.file}: {fault.old!r} to {fault.new!r}")
        return 0
    is_sound = check(faults) if given.check else run(faults, given.jobs, given.markdown)
    return 0 if is_sound else 1


if __name__ == "__main__":
    sys.exit(main())
