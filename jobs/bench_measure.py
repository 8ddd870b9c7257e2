"""Time and memory of child processes, and the scripts that raylab is measured against.

Model: every measurement is a child process of its own. Its time is that of the whole command,
imports included. Its memory is the peak of anonymous resident memory: RssAnon of
/proc/<pid>/status, summed over the child and its descendants, looked at every 5 ms. Mapped files
are page cache, and do not count; in `resident`, the peak of VmRSS, they do.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

READ = """
import sys, time
from pathlib import Path
files = [file for name in sys.argv[1:] for file in sorted(Path(name).glob("*.safetensors"))]
buffer = bytearray(8 << 20)
seconds = []
for _ in range(6):
    start = time.perf_counter()
    for file in files:
        with file.open("rb", buffering=0) as opened:
            while opened.readinto(buffer):
                pass
    seconds.append(time.perf_counter() - start)
print(min(seconds[1:]))
"""

READ_ONCE = """
import sys, threading, time
from pathlib import Path
files = [file for name in sys.argv[2:] for file in sorted(Path(name).glob("*.safetensors"))]

def read(some):
    buffer = bytearray(8 << 20)
    for file in some:
        with file.open("rb", buffering=0) as opened:
            while opened.readinto(buffer):
                pass

count = int(sys.argv[1])
threads = [threading.Thread(target=read, args=(files[i::count],)) for i in range(count)]
start = time.perf_counter()
for each in threads:
    each.start()
for each in threads:
    each.join()
print(time.perf_counter() - start)
"""

PLAIN = """
import sys
from pathlib import Path
import torch
from safetensors.torch import load_file

def load(folder):
    files = sorted(Path(folder).glob("*.safetensors"))
    return {name: tensor for file in files for name, tensor in load_file(file).items()}

a, b = load(sys.argv[1]), load(sys.argv[2])
diff = torch.cat([(a[name].float() - b[name].float()).flatten() for name in a])
print("L1", torch.norm(diff, 1).item(), "L2", torch.norm(diff).item())
size = diff.abs()
for density in map(float, sys.argv[3:]):
    keep = int(density * size.numel())
    threshold = size.kthvalue(size.numel() - keep + 1).values
    kept = diff[size >= threshold]
    print(density, threshold.item(), torch.norm(kept, 1).item(), torch.norm(kept).item())
"""

SGEMM = """
import sys, time, torch
n = int(sys.argv[1])
if sys.argv[2:]:
    torch.set_num_threads(int(sys.argv[2]))
a, b = torch.randn(n, n), torch.randn(n, n)
seconds = []
for _ in range(4):
    start = time.perf_counter()
    a @ b
    seconds.append(time.perf_counter() - start)
print(2 * n**3 / min(seconds))
"""


@dataclass(frozen=True)
class Run:
    """One child process: wall seconds, peak anonymous bytes, what it printed, seconds of all
    processors, and peak resident bytes."""

    seconds: float
    memory: int
    output: str
    processor: float = 0.0
    resident: int = 0


def memory_of(pid: int, *, alone: bool = False) -> tuple[int, int]:
    """(RssAnon, VmRSS) in bytes of a process and, unless `alone`, its descendants; zeros for one
    that ended."""
    folder = Path("/proc") / str(pid)
    try:
        lines = (folder / "status").read_text().splitlines()
        tasks = [] if alone else folder.glob("task/*/children")
        children = [child for file in tasks for child in file.read_text().split()]
    except (FileNotFoundError, ProcessLookupError):
        return 0, 0
    own = dict(line.split(":", 1) for line in lines)
    found = [[int(own.get(key, "0").split()[0]) << 10 for key in ("RssAnon", "VmRSS")]]
    anonymous, resident = zip(*found, *(memory_of(int(child)) for child in children), strict=True)
    return sum(anonymous), sum(resident)


def forget(*directories: Path) -> None:
    """Take the files of directories out of the page cache."""
    for file in (file for directory in directories for file in directory.iterdir()):
        handle = os.open(file, os.O_RDONLY)
        os.fsync(handle)  # A page that is not on the disk yet would stay.
        os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(handle)


def measured(command: Sequence[str], *, alone: bool = False) -> Run:
    """Run `command` as a child; `alone`: without the memory of its descendants.

    Ends the bench with its words where it fails.
    """
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    # Ray sets one thread for the entry point of a job, which is not what is measured.
    environment.pop("OMP_NUM_THREADS", None)
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        start, before, peaks = time.perf_counter(), _processor_of_children(), (0, 0)
        child = subprocess.Popen(command, stdout=out, stderr=err, env=environment)
        while child.poll() is None:
            now = memory_of(child.pid, alone=alone)
            peaks = max(peaks[0], now[0]), max(peaks[1], now[1])
            time.sleep(0.005)
        seconds, processor = time.perf_counter() - start, _processor_of_children() - before
        for file in (out, err):
            file.seek(0)
        if child.returncode:
            sys.exit(f"{' '.join(command)[:300]}\n{err.read().decode(errors='replace')[-2000:]}")
        return Run(seconds, peaks[0], out.read().decode(), processor, peaks[1])


def _processor_of_children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def best(runs: Iterable[Run]) -> Run:
    """The run that took least, with the highest peaks of all."""
    kept = list(runs)
    memory, resident = (max(getattr(r, name) for r in kept) for name in ("memory", "resident"))
    return replace(min(kept, key=lambda run: run.seconds), memory=memory, resident=resident)


def python(script: str, *arguments: object) -> list[str]:
    return [sys.executable, "-c", script, *map(str, arguments)]
