"""Runs checks one after another, each in a process of its own, and keeps what is known.

Model: the time of the whole run is dealt out by the checks' shares; what a check does not use
goes to those after it. A check knows when its time is up, which begins once its libraries are
imported, and leaves parts out. One that goes on is ended with all that it started, and has not
held; by then half of their shares is still there for the checks after it.
Invariant: after every finding the document on disk is whole and says all that is known: a run that
is killed loses nothing.
"""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, NamedTuple

from gpu_checks.child import run as run_in_child
from gpu_checks.outcome import NOT_HELD, RUNNING, Outcome
from gpu_checks.report import Setting
from gpu_checks.table import Check

_GRACE = 0.15
"""The share of a check's time that is kept for its last part."""
_PATIENCE = 4.0
"""How many times its time a check may take, imports and all, before it is ended."""
_RESERVE = 0.5
_LEAST = 1.0


@dataclass(frozen=True)
class Run:
    """What is asked. seconds: the most that the whole run takes; machine: what the document says
    of it."""

    checks: Sequence[Check]
    device: str
    quick: bool
    work: Path
    out: Path
    seconds: float
    machine: Mapping[str, Any]


def run_checks(asked: Run, say: Callable[[str], None]) -> list[Outcome]:
    """Run the checks, say a line for each, and write the document after each."""
    outcomes = [Outcome(check.name, check.shows) for check in asked.checks]
    document = _Document(asked, outcomes)
    document.save()
    ends = time.monotonic() + asked.seconds
    for index, (check, outcome) in enumerate(zip(asked.checks, outcomes, strict=True)):
        later = sum(other.share for other in asked.checks[index + 1 :])
        unit = max(_LEAST, ends - time.monotonic()) / (check.share + later)
        limit = unit * (check.share + (1 - _RESERVE) * later)
        time_ = _Time(unit * check.share, min(limit, unit * check.share * _PATIENCE))
        _run_one(asked, check, outcome, time_, document)
        say(outcome.line)
    document.is_complete = True
    document.save()
    return outcomes


def exit_status(outcomes: Sequence[Outcome]) -> int:
    """1 where a check has not held."""
    return int(any(outcome.verdict == NOT_HELD for outcome in outcomes))


class _Time(NamedTuple):
    """The seconds of a check after its imports, and those after which it is ended."""

    seconds: float
    limit: float


class _Document:
    """check_gpu.json."""

    def __init__(self, asked: Run, outcomes: Sequence[Outcome]) -> None:
        self._asked, self._outcomes = asked, outcomes
        self._started = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        self.is_complete = False

    def save(self) -> None:
        """Replace the file as a whole."""
        content = {
            "started": self._started,
            "complete": self.is_complete,
            "device": self._asked.device,
            "quick": self._asked.quick,
            "machine": dict(self._asked.machine),
            "checks": [outcome.document for outcome in self._outcomes],
        }
        # Before it replaces the file, so that one that cannot be written harms nothing.
        text = json.dumps(content, ensure_ascii=False, indent=1, default=str) + "\n"
        part = self._asked.out.with_name(f".{self._asked.out.name}.{os.getpid()}.part")
        part.write_text(text, encoding="utf-8")
        part.replace(self._asked.out)


def _run_one(asked: Run, check: Check, outcome: Outcome, time_: _Time, document: _Document) -> None:
    started = time.monotonic()
    if check.needs_gpu and asked.device != "cuda":
        outcome.take(("impossible", {"why": "needs a GPU"}))
        return
    ends, seconds = started + time_.limit, (1 - _GRACE) * time_.seconds
    setting = Setting(asked.device, asked.quick, asked.work, ends - _GRACE * time_.seconds)
    log = asked.work / f"{check.name}.log"
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    arguments = (sender, check.function, setting, seconds, log)
    process = context.Process(target=run_in_child, args=arguments)
    outcome.verdict = RUNNING
    document.save()
    process.start()
    sender.close()
    try:
        if not _listen(receiver, process.sentinel, outcome, ends, document):
            process.join(0.5)  # one that has died has its status soon
            _explain(process.exitcode, outcome, time_.limit, log)
    except BaseException:
        outcome.fail("the run was interrupted")
        raise
    finally:
        _end(process)
        outcome.seconds = time.monotonic() - started
        document.save()


def _listen(
    receiver: Connection, sentinel: int, outcome: Outcome, ends: float, document: _Document
) -> bool:
    """Take in events until the check has ended (True), or died, or its time is up (False)."""
    while (left := ends - time.monotonic()) > 0:
        ready = wait([receiver, sentinel], timeout=left)
        if receiver in ready:
            try:
                has_ended = outcome.take(receiver.recv())
            except EOFError:
                return False
            if has_ended:
                return True
            document.save()
        elif ready:
            return False
    return False


def _explain(status: int | None, outcome: Outcome, limit: float, log: Path) -> None:
    """Say why a check has no end: its time is up, or its process died with `status`."""
    if status is None:
        outcome.fail(f"ended after {limit:.0f} s, when its time was up")
        return
    said = log.read_text(errors="replace")[-2000:] if log.exists() else ""
    outcome.fail(f"its process died with status {status}")
    outcome.traceback = said


def _end(process: Any) -> None:
    """End the process and its group, in which Ray's and raylab's processes may be."""
    process.join(1)
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, number)
        process.join(3)
    if process.is_alive():
        process.kill()
        process.join()
