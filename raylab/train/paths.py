"""What a training does to each layer along the way, out of its LoRA factors.

Model: at steps 0, E, 2 E ... and the last one `PathRecorder` records, for each layer, the delta
from where the training started (for a chained trial: from its parent): its norm |delta|, the norm
of the step from the record before, the turn (cosine of that step with the step before) and a
sketch. Layers are named as in the other tables: model.layers.3; what lies in none goes under its
own name. E is the least that makes at most MOST records, so that it depends on the number of
steps alone. The sums of steps are the length of the path; distances and cosines of sketches of
two trials at one step say where seeds part (`raylab.train.deltas`, which says how exact all is).
Undefined, and null: a step where there is no record before it, a turn where there are not two
steps or one of them is zero.

For the next record the factors of the last two are kept in main memory, in float32. They and the
records go with every checkpoint of the trainer as one safetensors file, which holds no pickle.
A record takes 2 to 3 ms of the demo's model (a step: 60 ms) in one thread of a CPU; adapters of
an 8B model with r = 8 take about 0.5 s there. Checkpoints grow by two adapters, from three.

Invariant: takes no random numbers and touches no gradient: the adapter's bytes are the same with
and without. A training that went on from a checkpoint has bit for bit the records of one that
was never ended; one from a checkpoint without them has those from there on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from safetensors.torch import load_file, save_file
from transformers import TrainerCallback
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

from raylab.plan.shards import layer_of, natural_order
from raylab.reduce.blas import one_blas_thread
from raylab.train.deltas import SKETCH, Factors, Group, groups_of

MOST = 64
"""Records of one training."""
CHECKPOINTED = "paths.safetensors"
"""The file in a directory of a checkpoint of the trainer."""

Snapshot = tuple[Factors, ...]
"""The factors of all groups at one step, float32, in main memory."""


@dataclass(frozen=True)
class Waypoint:
    """One record. norm, step_norm, turn: (layers,) float64, NaN where undefined.

    sketch: (layers, SKETCH) float32. All in the units of the weights, but for turn.
    """

    norm: np.ndarray
    step_norm: np.ndarray
    turn: np.ndarray
    sketch: np.ndarray


def interval(steps: int, most: int = MOST) -> int:
    """Steps between records, so that those at 0 and at the end are among at most `most`."""
    return max(1, -(-steps // (most - 1)))


class PathRecorder(TrainerCallback):
    """Records the path of a training; comes before the callback that keeps checkpoints."""

    def __init__(self) -> None:
        """Nothing is known before the training begins."""
        self._groups: tuple[Group, ...] = ()
        self._layers: tuple[str, ...] = ()
        self._points: dict[int, Waypoint] = {}
        self._before: list[Snapshot] = []
        """Of the last two records, the latest first."""

    def on_train_begin(
        self, args: Any, state: Any, control: Any, model: Any = None, **kwargs: Any
    ) -> None:
        """Record the start, or take up what the checkpoint has recorded."""
        self._groups = groups_of(model)
        names = {layer_of(f"{name}.weight") for group in self._groups for name in group.names}
        self._layers = tuple(sorted(names, key=natural_order))
        file = _file(args, state)
        if not state.global_step:
            self._record(0)
        elif file.exists():
            self._points, self._before = _read(file, len(self._groups))

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Record the step where it is its turn."""
        step, last = state.global_step, state.max_steps
        if step % interval(last) == 0 or step == last:
            self._record(step)

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Add the records to the checkpoint that the trainer has saved."""
        save_file(_packed(self._points, self._before), _file(args, state))

    def table(self) -> pa.Table:
        """A row for each step and layer: the columns of the table `paths` that a trial fills."""
        points, layers = self._points, len(self._layers)
        sketches = np.concatenate([point.sketch.reshape(-1) for point in points.values()])
        offsets = np.arange(len(points) * layers + 1, dtype=np.int32) * SKETCH
        numbers = {
            name: pa.array(
                np.concatenate([getattr(p, name) for p in points.values()]), from_pandas=True
            )
            for name in ("norm", "step_norm", "turn")
        }
        return pa.table(
            {
                "step": pa.array(np.repeat(np.fromiter(points, dtype=np.int64), layers)),
                "layer": pa.array(self._layers * len(points), pa.string()),
                **numbers,
                "sketch": pa.ListArray.from_arrays(offsets, sketches),
            }
        )

    @torch.no_grad()
    def _record(self, step: int) -> None:
        """Measure the adapter as it is, and remember it for the next record."""
        # The bits of a product may depend on its threads, of which libraries may take fewer.
        with one_blas_thread():
            now = [group.factors() for group in self._groups]
            earlier = zip(*self._before, strict=True) if self._before else [()] * len(now)
            found = [
                group.measure(factors, before)
                for group, factors, before in zip(self._groups, now, earlier, strict=True)
            ]
            sums = self._by_layer(torch.cat(found).cpu().numpy())
        self._points[step] = self._waypoint(sums)
        kept = tuple(factors.to("cpu", torch.float32) for factors in now)
        self._before = [kept, *self._before][:2]

    def _by_layer(self, found: np.ndarray) -> np.ndarray:
        """(layers, 3 + SKETCH): the sums of the modules' rows, in one order."""
        places = {layer: place for place, layer in enumerate(self._layers)}
        sums = np.zeros((len(places), found.shape[1]))
        names = [name for group in self._groups for name in group.names]
        np.add.at(sums, [places[layer_of(f"{name}.weight")] for name in names], found)
        return sums

    def _waypoint(self, sums: np.ndarray) -> Waypoint:
        squares, together = np.maximum(sums[:, :2], 0), sums[:, 2]
        norm, step_norm = np.sqrt(squares).T
        last = next(reversed(self._points.values())).step_norm if self._points else step_norm
        lengths = step_norm * last
        turn = np.divide(together, lengths, out=np.full_like(norm, np.nan), where=lengths > 0)
        sketch = sums[:, 3:].astype(np.float32)
        return Waypoint(norm, step_norm, np.clip(turn, -1, 1), sketch)


def _file(args: Any, state: Any) -> Path:
    """Where the records lie in the trainer's own directory of the checkpoint of this step."""
    directory = f"{PREFIX_CHECKPOINT_DIR}-{state.global_step}"
    return Path(args.output_dir) / directory / CHECKPOINTED


def _packed(points: dict[int, Waypoint], before: Sequence[Snapshot]) -> dict[str, torch.Tensor]:
    """Records and factors as named tensors, in which every bit is as it was."""
    tensors = {"steps": torch.tensor(list(points), dtype=torch.int64)}
    for name in Waypoint.__dataclass_fields__:
        for step, point in points.items():
            tensors[f"{name}.{step}"] = torch.from_numpy(np.ascontiguousarray(getattr(point, name)))
    for age, snapshot in enumerate(before):
        for place, factors in enumerate(snapshot):
            tensors[f"up.{age}.{place}"] = factors.up
            tensors[f"down.{age}.{place}"] = factors.down
    return tensors


def _read(file: Path, groups: int) -> tuple[dict[int, Waypoint], list[Snapshot]]:
    """What `_packed` was given."""
    tensors = load_file(file)
    points = {
        step: Waypoint(**{n: tensors[f"{n}.{step}"].numpy() for n in Waypoint.__dataclass_fields__})
        for step in tensors["steps"].tolist()
    }
    before = [
        tuple(Factors(tensors[f"up.{a}.{p}"], tensors[f"down.{a}.{p}"]) for p in range(groups))
        for a in range(2)
        if f"up.{a}.0" in tensors
    ]
    return points, before
