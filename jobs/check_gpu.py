"""What only a GPU can show, in one command: `python jobs/check_gpu.py`.

For a machine with a GPU that is new to you, before a study. It needs no network, and at most
eight minutes. `docs/gpu.md` says what each check shows.
"""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gpu_checks.machine import chosen_device, described
from gpu_checks.outcome import table
from gpu_checks.runner import Run, exit_status, run_checks
from gpu_checks.table import CHECKS, Check

from raylab.errors import InputError, RaylabError

FILE = "check_gpu.json"
MINUTES = {"cuda": 8.0, "cpu": 15.0}
"""The most that all checks take, unless another number is given; on two idle cores it is three."""
_SECONDS = 58.0
"""Of a minute that checks get; the rest is for ending them."""


def parsed(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="What only a GPU can show, in one command.")
    parser.add_argument("--only", action="append", metavar="NAME", help="this check (repeatable)")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument("--quick", action="store_true", help="smaller sizes")
    parser.add_argument(
        "--out", type=Path, default=Path(), help=f"where {FILE} is written: a folder or a file"
    )
    parser.add_argument("--minutes", type=float, help="the most that all take (GPU: 8, CPU: 15)")
    parser.add_argument("--directory", type=Path, help="where models are made, and deleted")
    return parser.parse_args(arguments)


def chosen(names: Sequence[str] | None, checks: Sequence[Check]) -> list[Check]:
    """The checks of these names, in the order of the table. Raises InputError."""
    known = [check.name for check in checks]
    unknown = [name for name in names or () if name not in known]
    if unknown:
        raise InputError(
            "there is no such check", found=", ".join(unknown), expected=", ".join(known)
        )
    return [check for check in checks if not names or check.name in names]


def document_path(out: Path) -> Path:
    """The file of the document. Raises InputError where its folder is not there."""
    file = out / FILE if out.is_dir() or not out.suffix else out
    if not file.parent.is_dir():
        raise InputError(
            "the document cannot be written",
            found=str(file),
            expected="a folder that is there, or a file in one",
        )
    return file


def checked(options: argparse.Namespace, checks: Sequence[Check]) -> tuple[list[Check], Path, str]:
    """(the checks, the document's file, the device) that are asked for. Raises InputError."""
    if options.minutes is not None and not options.minutes > 0:
        raise InputError("the time is no time", found=options.minutes, expected="minutes above 0")
    if options.directory is not None and not options.directory.is_dir():
        raise InputError("no such folder", found=options.directory, expected="a folder")
    some, file = chosen(options.only, checks), document_path(options.out)
    return some, file, chosen_device(options.device)


def main(arguments: Sequence[str] | None = None, checks: Sequence[Check] = CHECKS) -> int:
    options = parsed(arguments)
    try:
        some, file, device = checked(options, checks)
    except RaylabError as error:
        print(f"check_gpu: {error.message}", file=sys.stderr)
        return error.exit_status
    minutes = options.minutes or MINUTES[device]
    machine = described(device)
    print(f"{machine['gpu'] if device == 'cuda' else machine['cpu']}, at most {minutes:g} minutes")
    with tempfile.TemporaryDirectory(prefix="check-gpu-", dir=options.directory) as work:
        asked = Run(some, device, options.quick, Path(work), file, _SECONDS * minutes, machine)
        before = signal.signal(signal.SIGTERM, _interrupt)
        try:
            outcomes = run_checks(asked, lambda line: print(line, flush=True))
        except KeyboardInterrupt:
            print(f"check_gpu: interrupted; {file} holds what is known", file=sys.stderr)
            return 1
        finally:
            signal.signal(signal.SIGTERM, before)
    print(f"\n{table(outcomes)}\n\n{file}")
    return exit_status(outcomes)


def _interrupt(number: int, frame: Any) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
