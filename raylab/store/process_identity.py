"""The owner of a lease: a process, named so that others can tell whether it still runs.

Model: a process is identified by its host, its id, the time when it started (ids are used again),
and the kernel that gave the id: its boot and its namespace of ids. Containers on one machine have
different namespaces.
Invariant: `is_dead` is True only for a process of the caller's own kernel. About every other
process, and if the system does not tell, nothing is known.
"""

from __future__ import annotations

import os
import socket
import time
import uuid
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

_PROC = Path("/proc")


class Lease(BaseModel):
    """The content of lease.json. Times are by the owner's clock; raylab does not compare them."""

    model_config = ConfigDict(frozen=True, defer_build=True)
    owner: str
    host: str
    pid: int = Field(gt=0)
    kernel: str = ""
    """The kernel that gave `pid`; empty if the system does not tell."""
    started: str | None = None
    """When the process started, as its kernel counts."""
    since: str
    time: str
    beat: int = 0
    """The number of the last heartbeat."""

    def next(self) -> Lease:
        """The same lease, one heartbeat later."""
        return self.model_copy(update={"beat": self.beat + 1, "time": _now()})


def new_lease() -> Lease:
    """A new lease of this process."""
    now = _now()
    return Lease(
        owner=uuid.uuid4().hex,
        host=socket.gethostname(),
        pid=os.getpid(),
        kernel=_kernel_identity(),
        started=_start_time(os.getpid()),
        since=now,
        time=now,
    )


def parse_lease(text: bytes | None) -> Lease | None:
    """The lease that `text` holds; None if there is none, or it cannot be read."""
    try:
        return Lease.model_validate_json(text) if text else None
    except ValidationError:
        return None


def is_dead(lease: Lease) -> bool:
    """Whether the owner ran on this kernel and has ended."""
    if not lease.kernel or lease.kernel != _kernel_identity():
        return False
    return not _exists(lease.pid) or _start_time(lease.pid) not in (lease.started, None)


def _now() -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S %z")


def _kernel_identity() -> str:
    try:
        boot = (_PROC / "sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {(_PROC / 'self/ns/pid').readlink()}"
    except OSError:
        return ""


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True  # It belongs to another user.
    return True


def _start_time(pid: int) -> str | None:
    """When a process started, in clock ticks since the boot.

    An empty text for a process that has ended but is still listed; None if it may not be read.
    """
    try:
        stat = (_PROC / str(pid) / "stat").read_text()
    except OSError:
        return None
    # The fields follow the process's name in parentheses, which may hold any character.
    fields = stat.rpartition(")")[2].split()
    return "" if fields[0] in "ZX" else fields[19]
