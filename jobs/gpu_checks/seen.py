"""What a worker of Ray sees of GPUs, once it has taken its own as raylab's workers do.

Invariant: nothing here asks CUDA for anything before raylab has chosen the worker's GPU.
"""

from __future__ import annotations

import os
from typing import Any

import ray

from raylab.cluster.worker_gpu import VISIBLE, use_own_gpu


def sees() -> dict[str, Any]:
    """The worker's GPU by Ray, by the environment around raylab's choice, and by torch."""
    before = os.environ.get(VISIBLE)
    own = use_own_gpu()

    import torch

    from raylab.train.model import device_of_this_process

    device = device_of_this_process()
    return {
        "own": list(own),
        "before": before,
        "after": os.environ.get(VISIBLE),
        "count": torch.cuda.device_count(),
        "device": str(device),
        "works": float(torch.ones(4, device=device).sum()) == 4,
    }


@ray.remote
class Actor:
    """A worker that stays."""

    def sees(self) -> dict[str, Any]:
        """As `sees`."""
        return sees()
