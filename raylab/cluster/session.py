"""The driver's session: its connection to Ray, and how it stops on request.

Model: the driver joins the cluster at an address, or starts a local cluster of its own. The first
Ctrl-C or SIGTERM (`ray job stop` sends it) asks every trial, through the store, to save a
checkpoint and to end, and no other trial starts. The second signal ends the driver at once, as
does the loss of its lease.
The start of a cluster is mostly waiting, so a thread loads libraries meanwhile.
Invariant: without an address raylab never joins another cluster of the machine, and its own ends
with the driver; a cluster that it joined stays as it was. The first signal cuts no write short.
Whether the driver was asked to stop is state of this process, never of the store, where another
driver may have asked.
"""

from __future__ import annotations

import logging
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import Any

import ray
from ray.exceptions import AuthenticationError

from raylab.errors import ClusterError
from raylab.imports import load_aside
from raylab.store.attempt_state import clear_stop_request, request_stop
from raylab.store.filesystem import Store
from raylab.store.lease import HeldLease

# Each trial limits its own threads, and raylab prints its own lines instead of Tune's. In a Ray
# job, a variable that is set both here and with the job is no conflict: it has the same value.
_ENVIRONMENT = {
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_SYNCER": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    # Ray 2.60 starts the trials of a custom searcher one by one; raylab's knows how many fit.
    "TUNE_MAX_PENDING_TRIALS_PG": "1000",
    "RAY_DEDUP_LOGS": "0",
    "RAY_OVERRIDE_JOB_RUNTIME_ENV": "1",
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
}
_WORKER_ENVIRONMENT = ("HF_HUB_OFFLINE", "HF_HOME", "RAYLAB_SCRATCH")
_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_STARTS = 2


@contextmanager
def connected(
    address: str | None, aside: Sequence[str] = (), **options: Any
) -> Iterator[Callable[[], None]]:
    """Connect to Ray for the time of the block, which may call what it gets, to leave Ray in a
    thread and do without it from there on. Raises ClusterError if that fails.

    aside: modules that a thread loads meanwhile.
    """
    if ray.is_initialized():
        yield lambda: None
        return
    for key, value in _ENVIRONMENT.items():
        os.environ.setdefault(key, value)
    loader = load_aside(aside)
    try:
        if address is None:
            _start_node(options)
        else:
            _init(address, {"runtime_env": _passed_on()})
    finally:
        loader.join()
    leaving = threading.Thread(target=ray.shutdown, name="leave Ray")
    try:
        yield leaving.start
    finally:
        if leaving.ident:
            leaving.join()
        ray.shutdown()


def _passed_on() -> dict[str, Any] | None:
    """What workers of a running cluster get; those of a node that raylab starts inherit it, and
    Ray then has processes ready for them."""
    passed = {key: os.environ[key] for key in _WORKER_ENVIRONMENT if key in os.environ}
    return {"env_vars": passed} if passed else None


def _start_node(settings: dict[str, Any]) -> None:
    """Start Ray on this machine; a busy machine gets a second chance. Raises ClusterError."""
    for chance in range(_STARTS):
        try:
            _init("local", {"include_dashboard": False, **settings})
            return
        except ClusterError:
            raise
        except Exception as error:
            # Ray 2.60 gives its own node 30 s, then raises a plain Exception (_private/node.py).
            ray.shutdown()
            if chance == _STARTS - 1:
                raise ClusterError(
                    "Ray does not start on this machine",
                    found=str(error),
                    expected="a node that starts within 30 s",
                    todo="give the same command again when the machine is less busy, or start Ray "
                    "with `ray start --head` and name it with --address",
                ) from error


def _init(address: str, settings: dict[str, Any]) -> None:
    try:
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, **settings)
    except (AuthenticationError, ConnectionError, RuntimeError, ValueError) as error:
        raise ClusterError(
            "Ray cannot be reached",
            found=f"{address}: {error}",
            expected="the address of a running cluster, or none",
            todo="if it has a token: set RAY_AUTH_MODE=token, and put it in ~/.ray/auth_token",
        ) from error


def slots(gpus: float, cpus: float) -> tuple[int, dict[str, float]]:
    """(number of workers that fit the cluster at once, the resources of one worker).

    Workers use GPUs if the cluster has any.
    """
    total = ray.cluster_resources()
    if has_gpus():
        fit = min(total["GPU"] / gpus, total.get("CPU", 1) / cpus)
        return max(1, int(fit)), {"gpu": gpus, "cpu": float(cpus)}
    return max(1, int(total.get("CPU", 1) // cpus)), {"cpu": float(cpus)}


def has_gpus() -> bool:
    """Whether the cluster has a GPU now."""
    return bool(ray.cluster_resources().get("GPU", 0) > 0)


class StopRequest:
    """Whether this driver was asked to stop."""

    def __init__(self, store: Store) -> None:
        """Nobody has asked yet."""
        # It holds no lock, because Tune pickles the searcher that refers to it.
        self._store, self._is_made = store, False

    def make(self) -> None:
        """Ask the trials to save and to end. May be called from any thread."""
        if not self._is_made:
            self._is_made = True
            request_stop(self._store)

    def is_made(self) -> bool:
        """Whether the request was made."""
        return self._is_made


@contextmanager
def stop_on_signal(
    store: Store, lease: HeldLease, say: Callable[[str], None]
) -> Iterator[StopRequest]:
    """Turn signals into a request to stop for the time of the block; in the main thread only.

    Raises KeyboardInterrupt at the second signal, at the end of the block if there was a request,
    and at the first signal if `lease` is lost: a request through the store would then stop the
    trials of another driver.
    """
    clear_stop_request(store)
    request = StopRequest(store)
    is_main = threading.current_thread() is threading.main_thread()
    before = {number: signal.getsignal(number) for number in _SIGNALS} if is_main else {}

    def handle(number: int, frame: FrameType | None) -> None:
        if request.is_made() or lease.lost.is_set():
            raise KeyboardInterrupt
        say("stopping: trials save what they need to go on; once more stops at once")
        request.make()

    for number in before:
        signal.signal(number, handle)
    try:
        yield request
        if request.is_made():
            raise KeyboardInterrupt
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        if not lease.lost.is_set():
            clear_stop_request(store)
