"""The first actor of the stages after the training: it starts while trials still train.

Model: the actor takes no slot from a trial. It measures previews as soon as there are some
(`raylab.cluster.callbacks.preview`). Once a slot has no trial and trials train, it loads what all
stages need, and compiles the loops that no run has compiled before; the driver loads libraries in
a thread. That takes some seconds of one core, which the stages would wait for otherwise. On a
cluster without GPUs the pool of the reduction begins with it; elsewhere it ends with the training,
because actors of the reduction have a GPU each.
Invariant: no number depends on it. If it dies, the next preview starts another one, and the pool
replaces it.
"""

from __future__ import annotations

from threading import Thread
from typing import Any

import ray

from raylab.cluster.session import has_gpus
from raylab.imports import load_aside

_OF_DRIVER = (
    "torch",
    "raylab.cluster.reduction",
    "raylab.cluster.functions",
    "raylab.cluster.connectivity",
    "raylab.report.page.render",
)


class EarlyActor:
    """Starts when it is first asked for anything."""

    def __init__(self) -> None:
        """Nothing is started yet."""
        self._actor: Any = None
        self._is_prepared = False
        self._loader: Thread | None = None

    def measure(self, *comparison: Any) -> Any:
        """The reference of the rows of a comparison; see `ShardActor.preview`."""
        return self._started().preview.remote(*comparison)

    def prepare(self) -> None:
        """Load libraries, once, here and in the actor."""
        if self._is_prepared:
            return
        self._is_prepared = True
        self._loader = load_aside(_OF_DRIVER)
        if not has_gpus():
            self._started().prepare.remote()

    def lost(self) -> None:
        """The actor has died: forget it."""
        self._actor = None

    def take(self) -> Any:
        """The actor for a pool that goes on with it, or None."""
        if self._loader:
            self._loader.join()
        if has_gpus():
            self.close()
        actor, self._actor = self._actor, None
        return actor

    def close(self) -> None:
        """End the actor, unless it was taken."""
        if self._actor is not None:
            ray.kill(self._actor)
        self._actor = None

    def __getstate__(self) -> dict[str, Any]:
        """Tune pickles its callbacks; a thread cannot be pickled."""
        return {**self.__dict__, "_loader": None}

    def _started(self) -> Any:
        from raylab.cluster.shard_actor import start_actor

        if self._actor is None:
            self._actor = start_actor(num_cpus=0, num_gpus=0)
        return self._actor
