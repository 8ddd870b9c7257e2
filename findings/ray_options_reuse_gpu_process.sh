#!/bin/bash
# Ray 2.60.0: a task that gets its GPU from `.options(num_gpus=1)` reuses its process; one that is
# declared with `@ray.remote(num_gpus=1)` does not.
#
# A good guess: both forms ask for the same, so both start a new process for each call, as Ray does
# for GPU tasks so that the memory and the state of CUDA are given back.
# What happens: Ray sets max_calls=1 where the decorator names a GPU
# (ray/remote_function.py, RemoteFunction.__init__), and `.options` neither sets nor takes it. The
# second form keeps one process for all calls: CUDA stays initialised there with the first call's
# device, and its cached memory stays allocated while other tasks use the GPU.
# What helps: name max_calls=1 in the decorator; it holds for `.options(num_gpus=...)` as well.
# It needs no GPU: Ray is told that the machine has one.
#
# Seen on 2026-11-30 with Python 3.11:
#   declared: 3 processes; options: 1 process; options with max_calls: 3 processes
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet "ray==2.60.0"
cat > "$folder/tried.py" <<'PYTHON'
import os

import ray

ray.init(num_cpus=1, num_gpus=1, include_dashboard=False, log_to_driver=False)


@ray.remote(num_gpus=1)
def declared():
    return os.getpid()


@ray.remote
def plain():
    return os.getpid()


@ray.remote(max_calls=1)
def once():
    return os.getpid()


def processes(task):
    return len({ray.get(task.remote()) for _ in range(3)})


found = (
    processes(declared),
    processes(plain.options(num_gpus=1)),
    processes(once.options(num_gpus=1)),
)
print("ray", ray.__version__)
print("declared: %d; options: %d; options with max_calls: %d (processes for 3 calls)" % found)
assert found == (3, 1, 3), "the behaviour has changed"
PYTHON
"$folder/venv/bin/python" "$folder/tried.py"
