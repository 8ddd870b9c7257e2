"""What a training does to each layer along the way, out of its LoRA factors.

Model: `PathRecorder` makes a record at steps 0, E, 2 E ... and at the last step. A record holds,
for each layer, the delta from the start of the training (for a chained trial: from its parent):
its norm |delta|, the norm of the step since the record before, the turn (the cosine of that step
with the step before it) and a sketch. Layers are named as in the other tables: model.layers.3; a
module in no layer has its own name. E is the least that makes at most MOST records, so that it
depends on the number of steps alone. The step norms add up to the length of the path. Distances
and cosines of the sketches of two trials at one step show where seeds diverge
(`raylab.train.factor_norms` says how exact each number is). Undefined, and null: a step norm
without a record before it, and a turn without two steps, or with one of length zero.

For the next record, the factors of the last two stay in main memory, in float32. They and the
records go with every checkpoint of the trainer as one safetensors file, which holds no pickle. So
a checkpoint holds two adapters more, beside three (weights and Adam's state).
Cost: less than 1 % of the demo's training: 3 to 4 ms for each of 45 records, where a step takes
60 ms of one thread. In larger models a step grows faster. The adapters of an 8B model with r = 8
take 0.4 s of one thread on a CPU; a GPU does the sums where there is one.

Invariant: takes no random numbers and touches no gradient: the adapter has the same bytes with
and without a recorder. A training that resumed from a checkpoint has bit for bit the records of
one that was never stopped. From a checkpoint without records, it has those after it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from safetensors.torch import load_file, save_file
from transformers import TrainerCallback
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

from raylab.train.factor_norms import SKETCH, Factors, Group, groups_of
from raylab.weights.names import layer_of, natural_order
from raylab.weights.row_tiles import one_blas_thread

MOST = 48
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


_NUMBERS = tuple(field.name for field in fields(Waypoint))


def interval(steps: int, most: int = MOST) -> int:
    """Steps between records, so that those at 0 and at the end are among at most `most`."""
    return max(1, -(-steps // (most - 1)))


class PathRecorder(TrainerCallback):
    """Records the path of a training; comes before the callback that keeps checkpoints."""

    def __init__(self) -> None:
        """Nothing is recorded before the training begins."""
        self._groups: tuple[Group, ...] = ()
        self._layers: tuple[str, ...] = ()
        self._points: dict[int, Waypoint] = {}
        self._before: list[Snapshot] = []
        """Of the last two records, the latest first."""

    def on_train_begin(
        self, args: Any, state: Any, control: Any, model: Any = None, **kwargs: Any
    ) -> None:
        """Record the start, or load the records of the checkpoint."""
        self._groups = groups_of(model)
        names = {layer_of(f"{name}.weight") for group in self._groups for name in group.names}
        self._layers = tuple(sorted(names, key=natural_order))
        file = _file(args, state)
        if not state.global_step:
            self._record(0)
        elif file.exists():
            self._points, self._before = _unpacked(load_file(file), self._groups)

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Make a record where one is due."""
        step, last = state.global_step, state.max_steps
        if step % interval(last) == 0 or step == last:
            self._record(step)

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Add the records to the checkpoint that the trainer has saved."""
        save_file(_packed(self._points, self._before, self._groups), _file(args, state))

    def table(self) -> pa.Table:
        """A row for each step and layer: the columns of the table `paths` that a trial fills."""
        points, layers = list(self._points.values()), len(self._layers)
        whole = {
            name: np.concatenate([getattr(point, name) for point in points]) for name in _NUMBERS
        }
        sketches = whole.pop("sketch").reshape(-1)
        offsets = np.arange(0, len(sketches) + 1, SKETCH, dtype=np.int32)
        return pa.table(
            {
                "step": pa.array(np.repeat(np.fromiter(self._points, dtype=np.int64), layers)),
                "layer": pa.array(self._layers * len(points), pa.string()),
                **{name: pa.array(values, from_pandas=True) for name, values in whole.items()},
                "sketch": pa.ListArray.from_arrays(offsets, sketches),
            }
        )

    @torch.no_grad()
    def _record(self, step: int) -> None:
        """Measure the adapter as it is now, and keep its factors for the next record."""
        found, kept = [], []
        # The bits of a product may depend on its threads, of which libraries may take fewer.
        with one_blas_thread():
            for place, group in enumerate(self._groups):
                now = group.factors()
                found.append(group.measure(now, [snapshot[place] for snapshot in self._before]))
                kept.append(now.to("cpu", torch.float32))
        self._points[step] = self._waypoint(self._by_layer(torch.cat(found).cpu().numpy()))
        self._before = [tuple(kept), *self._before][:2]

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
    """The file of the records in the trainer's own checkpoint of this step."""
    directory = f"{PREFIX_CHECKPOINT_DIR}-{state.global_step}"
    return Path(args.output_dir) / directory / CHECKPOINTED


def _packed(
    points: Mapping[int, Waypoint], before: Sequence[Snapshot], groups: Sequence[Group]
) -> dict[str, torch.Tensor]:
    """Records by step and factors by module, bit for bit."""
    tensors = {"steps": torch.tensor(list(points), dtype=torch.int64)}
    for step, point in points.items():
        for name in _NUMBERS:
            tensors[f"{name}.{step}"] = torch.from_numpy(np.ascontiguousarray(getattr(point, name)))
    for age, snapshot in enumerate(before):
        for group, factors in zip(groups, snapshot, strict=True):
            for name, left, right in zip(group.names, factors.left, factors.right, strict=True):
                tensors[f"left.{age}.{name}"], tensors[f"right.{age}.{name}"] = left, right
    return tensors


def _unpacked(
    tensors: Mapping[str, torch.Tensor], groups: Sequence[Group]
) -> tuple[dict[int, Waypoint], list[Snapshot]]:
    """The records and the factors, as `_packed` took them."""
    points = {
        step: Waypoint(**{name: tensors[f"{name}.{step}"].numpy() for name in _NUMBERS})
        for step in tensors["steps"].tolist()
    }
    ages = range(min(2, len(points)))
    return points, [tuple(_stacked(tensors, age, group) for group in groups) for age in ages]


def _stacked(tensors: Mapping[str, torch.Tensor], age: int, group: Group) -> Factors:
    left, right = (
        torch.stack([tensors[f"{side}.{age}.{name}"] for name in group.names])
        for side in ("left", "right")
    )
    return Factors(left, right)
