"""The smallest GPU of a cluster, before anything is trained on it.

Model: a task on every node that has GPUs says how much memory each has, as torch sees it.
Invariant: a node that does not answer in time is left out, for this serves a warning alone;
without any answer the smallest is unknown (None). Only a machine with a GPU can show more.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import ray
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from raylab.cluster.doctor.probes import Asked, Facts, gpus
from raylab.cluster.shared_storage import working_nodes

PATIENCE = 60.0


def smallest_card() -> int | None:
    """The bytes of the smallest GPU that any node has."""
    asked = [_ask(node) for node in working_nodes() if node["Resources"].get("GPU")]
    if not asked:
        return None
    done, _ = ray.wait(asked, num_returns=len(asked), timeout=PATIENCE)
    return smallest(found for call in done if (found := _answer(call)) is not None)


def smallest(answers: Iterable[Facts]) -> int | None:
    """The least memory of all devices in `answers`."""
    return min(
        (int(card["memory"]) for facts in answers for card in facts["devices"]), default=None
    )


def _ask(node: Mapping[str, Any]) -> Any:
    place = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
    return _look.options(num_cpus=0, scheduling_strategy=place).remote()


@ray.remote
def _look() -> Facts:
    return gpus(Asked())


def _answer(call: Any) -> Facts | None:
    try:
        found: Facts = ray.get(call)
    except RayError:
        # A node that died meanwhile is told of elsewhere.
        return None
    return found
