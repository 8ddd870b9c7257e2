"""The connection to Ray: an address given, or a cluster of this process's own.

Invariant: without an address raylab starts its own local cluster, never joins a stranger's, and
ends it when done; with one it joins and leaves it as it was.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import ray
from ray.exceptions import AuthenticationError

from raylab.errors import ClusterError

# Each trial limits its own threads; Tune's chatter is replaced by raylab's own lines. In a job, an
# environment variable that was given with the job as well is no conflict: it has the same value.
_ENVIRONMENT = {
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_SYNCER": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    # Ray 2.60 starts the trials of a custom searcher one by one; ours knows how many fit.
    "TUNE_MAX_PENDING_TRIALS_PG": "1000",
    "RAY_DEDUP_LOGS": "0",
    "RAY_OVERRIDE_JOB_RUNTIME_ENV": "1",
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
}
_WORKER_ENVIRONMENT = ("HF_HUB_OFFLINE", "HF_HOME", "RAYLAB_SCRATCH")


@contextmanager
def connected(address: str | None, **options: Any) -> Iterator[None]:
    """Within, Ray is there. Raises ClusterError where `address` cannot be reached."""
    if ray.is_initialized():
        yield
        return
    for key, value in _ENVIRONMENT.items():
        os.environ.setdefault(key, value)
    passed = {key: os.environ[key] for key in _WORKER_ENVIRONMENT if key in os.environ}
    try:
        ray.init(
            address=address or "local",
            log_to_driver=False,
            logging_level=logging.ERROR,
            runtime_env={"env_vars": passed} if passed else None,
            **({} if address else {"include_dashboard": False, **options}),
        )
    except (AuthenticationError, ConnectionError, RuntimeError, ValueError) as error:
        raise ClusterError(
            "Ray cannot be reached",
            found=f"{address or 'local'}: {error}",
            expected="the address of a running cluster, or none",
            todo="if it has a token: set RAY_AUTH_MODE=token, and put it in ~/.ray/auth_token",
        ) from error
    try:
        yield
    finally:
        ray.shutdown()


def slots(gpus: float, cpus: float) -> tuple[int, dict[str, float]]:
    """(how many workers fit the cluster at once, the resources of one); GPUs where there are."""
    there = ray.cluster_resources()
    if has_gpus():
        fit = min(there["GPU"] / gpus, there.get("CPU", 1) / cpus)
        return max(1, int(fit)), {"gpu": gpus, "cpu": float(cpus)}
    return max(1, int(there.get("CPU", 1) // cpus)), {"cpu": float(cpus)}


def has_gpus() -> bool:
    """Whether there is a GPU in the cluster now."""
    return bool(ray.cluster_resources().get("GPU", 0) > 0)


def own_gpus() -> tuple[str, ...]:
    """The ids of the GPUs that Ray gave to this worker."""
    ids = ray.get_runtime_context().get_accelerator_ids().get("GPU", [])
    return tuple(str(item) for item in ids)
