"""Time and memory of child processes, and the scripts that raylab is measured against.

Model: every measurement is a child process of its own. Its time is that of the whole command,
imports included. Its memory is the peak of anonymous resident memory: RssAnon of
/proc/<pid>/status, summed over the child and its descendants, looked at every 5 ms. Mapped files
are page cache, and do not count.
"""

from __future__ import annotations

import os
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
    """One child process: wall seconds, peak anonymous bytes, what it printed."""

    seconds: float
    memory: int
    output: str


def anonymous(pid: int) -> int:
    """RssAnon in bytes of a process and its descendants; 0 for those that have ended."""
    folder = Path("/proc") / str(pid)
    try:
        lines = (folder / "status").read_text().splitlines()
        children = [c for f in folder.glob("task/*/children") for c in f.read_text().split()]
    except (FileNotFoundError, ProcessLookupError):
        return 0
    own = next((int(line.split()[1]) << 10 for line in lines if line.startswith("RssAnon")), 0)
    return own + sum(anonymous(int(child)) for child in children)


def measured(command: Sequence[str]) -> Run:
    """Run `command` as a child. Ends the bench with its words where it fails."""
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    # Ray sets one thread for the entry point of a job, which is not what is measured.
    environment.pop("OMP_NUM_THREADS", None)
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        start, peak = time.perf_counter(), 0
        child = subprocess.Popen(command, stdout=out, stderr=err, env=environment)
        while child.poll() is None:
            peak = max(peak, anonymous(child.pid))
            time.sleep(0.005)
        seconds = time.perf_counter() - start
        for file in (out, err):
            file.seek(0)
        if child.returncode:
            sys.exit(f"{' '.join(command)[:300]}\n{err.read().decode(errors='replace')[-2000:]}")
        return Run(seconds, peak, out.read().decode())


def best(runs: Iterable[Run]) -> Run:
    """The run that took least, with the highest peak of all."""
    kept = list(runs)
    return replace(min(kept, key=lambda run: run.seconds), memory=max(run.memory for run in kept))


def python(script: str, *arguments: object) -> list[str]:
    return [sys.executable, "-c", script, *map(str, arguments)]
