"""Who holds a lease: a process, named so that others can tell whether it still lives.

Model: a process is known by its host, its id and the moment it started (ids are used again), and
by the kernel that gave the id: the boot and the namespace of ids, which containers on one machine
do not share.
Invariant: `is_dead` only says so of a process of the caller's own kernel; of any other, and where
the system does not tell, nothing is known.
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
    """What lease.json says. Times are by the holder's own clock, and for people only."""

    model_config = ConfigDict(frozen=True)
    owner: str
    host: str
    pid: int = Field(gt=0)
    kernel: str = ""
    """Which kernel's ids `pid` is one of; nothing where the system does not tell."""
    started: str | None = None
    """When the process started, as its kernel counts."""
    since: str
    time: str
    beat: int = 0

    def next(self) -> Lease:
        """The same, one beat later."""
        return self.model_copy(update={"beat": self.beat + 1, "time": _now()})


def own_lease() -> Lease:
    """A new lease of this process."""
    now = _now()
    return Lease(
        owner=uuid.uuid4().hex,
        host=socket.gethostname(),
        pid=os.getpid(),
        kernel=_kernel(),
        started=_started(os.getpid()),
        since=now,
        time=now,
    )


def parse_lease(text: bytes | None) -> Lease | None:
    """The lease that `text` is; None where there is none, or it cannot be read."""
    try:
        return Lease.model_validate_json(text) if text else None
    except ValidationError:
        return None


def is_dead(lease: Lease) -> bool:
    """Whether the holder ran on this kernel and has ended."""
    if not lease.kernel or lease.kernel != _kernel():
        return False
    return not _exists(lease.pid) or _started(lease.pid) not in (lease.started, None)


def _now() -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S %z")


def _kernel() -> str:
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
        return True  # Somebody else's.
    return True


def _started(pid: int) -> str | None:
    """The start of a process in ticks since the boot; "" of one that has ended and is still
    listed, None where it may not be seen."""
    try:
        stat = (_PROC / str(pid) / "stat").read_text()
    except OSError:
        return None
    # The name before it, in parentheses, may hold anything.
    fields = stat.rpartition(")")[2].split()
    return "" if fields[0] in "ZX" else fields[19]
