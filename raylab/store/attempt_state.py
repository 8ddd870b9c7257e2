"""An attempt while it runs, and what can be told of it once its process is gone.

Model: a worker that begins an attempt leaves running.json in the trial's folder, with the node it
is on and how many processes the kernel had killed there for want of memory; it removes it when
the attempt ends. Where it stays behind, the process died: the node is asked what it knows.
Invariant: reads and writes no result; nothing here imports torch, so that asking is quick.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from raylab.errors import StoreError
from raylab.store.filesystem import Store, study_scratch
from raylab.store.records import PROGRESS, Attempt, trial_key, write_attempt, write_json

RUNNING = "running.json"
STOP = "stop"
_HASTE = 1.0
"""Seconds of patience with a store for what can be asked again."""
_log = logging.getLogger("raylab.store")
_KERNEL_COUNTS = (Path("/sys/fs/cgroup/memory.events"), Path("/proc/vmstat"))


class RunningAttempt(BaseModel):
    """An attempt that has begun and not ended."""

    model_config = ConfigDict(frozen=True)
    attempt: int
    node: str
    pid: int = 0
    node_id: str = ""
    gpus: tuple[str, ...] = ()
    started: float
    oom_kills: int


def begin_attempt(store: Store, folder: str, running: RunningAttempt) -> RunningAttempt:
    """Say that an attempt has begun, as it is then numbered; one that is found there died with
    its driver."""
    lost = read_running(store, folder)
    if lost:
        finish_attempt(
            store, folder, lost, cause="preempted", message="it ended with its driver", final=False
        )
        running = running.model_copy(update={"attempt": lost.attempt + 1})
    write_json(store, trial_key(folder, RUNNING), running.model_dump())
    return running


def read_running(store: Store, folder: str) -> RunningAttempt | None:
    """The attempt that runs, or was lost; None where there is none, or what was left is damaged."""
    key = trial_key(folder, RUNNING)
    if not store.exists(key):
        return None
    try:
        return RunningAttempt.model_validate_json(store.read(key))
    except ValidationError:
        return None


def clear_running(store: Store, folder: str) -> None:
    """Say that the attempt has ended."""
    store.delete(trial_key(folder, PROGRESS))
    store.delete(trial_key(folder, RUNNING))


def finish_attempt(
    store: Store,
    folder: str,
    running: RunningAttempt,
    *,
    cause: str | None = None,
    message: str = "",
    final: bool = True,
) -> None:
    """Leave what became of the attempt, and say that it has ended."""
    attempt = Attempt(
        attempt=running.attempt,
        cause=cause,
        message=message,
        final=final,
        node=running.node,
        gpus=running.gpus,
        started=running.started,
        seconds=max(0.0, time.time() - running.started) if running.started else 0.0,
    )
    write_attempt(store, folder, attempt)
    clear_running(store, folder)


def request_stop(store: Store) -> None:
    """Ask every trial to save what it needs to go on, and to end."""
    store.write(STOP, b"")


def clear_stop_request(store: Store) -> None:
    """Take back that trials were asked to stop."""
    store.delete(STOP)


def stop_checker(store: Store) -> Callable[[], bool]:
    """Tells whether trials were asked to stop; a store that does not answer soon did not ask."""
    hasty = store.with_timeout(_HASTE)

    def ask() -> bool:
        try:
            return hasty.exists(STOP)
        except StoreError as error:
            _log.warning("whether to stop could not be asked: %s", error)
            return False

    return ask


def kernel_oom_kills() -> int:
    """How many processes the kernel has killed for want of memory: in this container, else on
    this machine."""
    for file in _KERNEL_COUNTS:
        if file.exists():
            counts = dict(line.split() for line in file.read_text().splitlines())
            if "oom_kill" in counts:
                return int(counts["oom_kill"])
    return 0


def hang_stack_file(store: Store, trial_id: str) -> Path:
    """Where on this node the stack of a trial that hung lies."""
    return study_scratch(store) / "stuck" / f"{trial_id}.txt"


def take_hang_stack(store: Store, trial_id: str) -> str:
    """The stack of a trial that hung on this node, which is forgotten; or nothing."""
    file = hang_stack_file(store, trial_id)
    words = file.read_text(encoding="utf-8", errors="replace") if file.exists() else ""
    file.unlink(missing_ok=True)
    return words
