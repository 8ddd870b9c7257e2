"""What it costs to hold deltas against the base model's directions, and whether it can be done.

Model: of every matrix that an adapter over a base model changes, of shorter side p and longer side
q, one Gram matrix (2 p^2 q flop) is formed and decomposed (about 9 p^3: Golub & Van Loan, Matrix
Computations, 4th ed., 8.3.3), once for all models, and 8 p (p + 1) bytes are kept in OUT. A model
adds products of few columns, whose time is that of the p q + 2 p^2 entries that they read. Seconds
are flop over `RATE`, and entries over `ENTRIES`, both of one core. Adapters are those of trials,
finished ones, and merges that are written as one.
Invariant: shapes are those of headers or configs, no weight is read. A base model whose shapes are
not known has an unknown cost, and its `top` is checked by nobody: as many directions count there as
the shorter side has.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from raylab.errors import StudyError
from raylab.number_format import count, long_time, plural, size
from raylab.plan.file_shapes import shape_of_base
from raylab.plan.merges import Planned, PlannedMerge
from raylab.plan.model_shapes import Linear
from raylab.plan.stored import distinct
from raylab.plan.trials import Inputs, Trial
from raylab.spec.models import json_of
from raylab.spec.study import Study

RATE, ENTRIES = 3e10, 1e8
"""Flop/s of decompositions and entries/s of products: the processor time of matrices of 4096 x 4096
and 4096 x 14336 in bfloat16 and adapters of r = 8, measured on one core of a Xeon of 2.8 GHz."""
_FLOAT64 = 8
_CONFIG = "adapter_config.json"


@dataclass(frozen=True)
class DirectionsCost:
    """The cost over one base model: how many matrices of each (rows, columns) are decomposed, the
    flop of it, and the entries that all models read; None where shapes are not known."""

    base_model: str
    models: int
    matrices: Mapping[tuple[int, int], int] | None = None
    flop: float = 0.0
    entries: int = 0

    @property
    def bytes(self) -> int | None:
        """What the store keeps of it."""
        if self.matrices is None:
            return None
        sides = ((min(shape), number) for shape, number in self.matrices.items())
        return sum(_FLOAT64 * side * (side + 1) * number for side, number in sides)

    @property
    def document(self) -> dict[str, Any]:
        """The cost as JSON."""
        matrices = None
        if self.matrices is not None:
            matrices = [
                {"rows": rows, "columns": columns, "count": number}
                for (rows, columns), number in self.matrices.items()
            ]
        work = {"flop": self.flop, "entries": self.entries}
        common = {"base_model": self.base_model, "models": self.models, "matrices": matrices}
        return {**common, **(work if matrices else {}), "bytes": self.bytes}

    @property
    def line(self) -> str:
        """The cost as a plan prints it."""
        start = f"directions of {self.base_model}: "
        if self.matrices is None:
            return f"{start}unknown until it is downloaded"
        shapes = ", ".join(
            f"{count(number)} of {rows} x {columns}"
            for (rows, columns), number in self.matrices.items()
        )
        total = sum(self.matrices.values())
        return (
            f"{start}{plural(total, 'decomposition')} ({shapes}), once for all models: "
            f"{long_time(self.flop / RATE)} of one core, {size(self.bytes or 0)} in OUT; and "
            f"{plural(self.models, 'model')}: {long_time(self.entries / ENTRIES)} (estimates)"
        )


def check_directions(study: Study, inputs: Inputs, trials: Sequence[Trial]) -> None:
    """Raises StudyError where more directions are asked for than a matrix has that a trial
    adapts."""
    asked = study.base_directions
    for trial in trials if asked else ():
        linears = _adapted(inputs, trial) or ()
        least = min(linears, key=lambda item: min(item[0].outputs, item[0].inputs), default=None)
        if asked and least and asked.top > (side := min(least[0].outputs, least[0].inputs)):
            linear = least[0]
            raise StudyError(
                "spectra.base.top is beyond the rank of a tensor that a trial adapts",
                found=f"top {asked.top}; {linear.name} of {trial.base_model} is "
                f"{linear.outputs} x {linear.inputs}",
                expected=f"at most {side}",
                todo="lower spectra.base.top",
            )


def directions_costs(
    study: Study, inputs: Inputs, planned: Sequence[Planned]
) -> list[DirectionsCost]:
    """The cost for each base model that has adapters: trials, merges that are written as adapters,
    and finished ones; none where it is not asked for."""
    if study.base_directions is None:
        return []
    return list(_costs(study, inputs, planned))


def _costs(study: Study, inputs: Inputs, planned: Sequence[Planned]) -> Iterator[DirectionsCost]:
    for base in study.base_models:
        adapted = list(_adapters_of(study, inputs, planned, base))
        if not adapted:
            continue
        if None in adapted:
            yield DirectionsCost(base, len(adapted))
            continue
        matrices: Counter[Linear] = Counter()
        entries = 0
        for own in adapted:
            for linear, times in (own or {}).items():
                short = min(linear.outputs, linear.inputs)
                entries += times * (linear.numel + 2 * short**2)
            # What two models adapt is decomposed once.
            matrices |= own or Counter()
        by_shape: Counter[tuple[int, int]] = Counter()
        for linear, times in matrices.items():
            by_shape[linear.outputs, linear.inputs] += times
        flop = sum(_flop(shape) * number for shape, number in by_shape.items())
        yield DirectionsCost(base, len(adapted), by_shape, flop, entries)


def _adapters_of(
    study: Study, inputs: Inputs, planned: Sequence[Planned], base: str
) -> Iterator[Counter[Linear] | None]:
    """The linear layers of every adapter over a base model; None where they are not known."""
    trials = [item for item in planned if isinstance(item, Trial)]
    known = {trial.name: _layers(_adapted(inputs, trial)) for trial in trials}
    for name, model in study.models.items():
        directory = inputs.models[name].directory
        if model.base_model == base and directory and (directory / _CONFIG).is_file():
            targets = (json_of(directory / _CONFIG) or {}).get("target_modules") or ()
            known[name] = _layers(_targeted(inputs, base, targets))
            yield known[name]
    for item in distinct(planned):
        if item.base_model == base and isinstance(item, Trial):
            yield known[item.name]
        if item.base_model == base and isinstance(item, PlannedMerge) and item.is_adapter:
            yield _together([known.get(one.model) for one in item.request.inputs])


def _layers(found: Sequence[tuple[Linear, int]] | None) -> Counter[Linear] | None:
    if found is None:
        return None
    layers: Counter[Linear] = Counter()
    for linear, times in found:
        layers[linear] += times
    return layers


def _together(layers: Sequence[Counter[Linear] | None]) -> Counter[Linear] | None:
    """The layers of a merge: those that one of its models adapts."""
    found: Counter[Linear] = Counter()
    for own in layers:
        if own is None:
            return None
        found |= own
    return found


def _flop(shape: tuple[int, int]) -> float:
    short, long = min(shape), max(shape)
    return 2.0 * short**2 * long + 9.0 * short**3


def _adapted(inputs: Inputs, trial: Trial) -> list[tuple[Linear, int]] | None:
    """The linear layers that a trial adapts, and how often each is there; None if not known."""
    return _targeted(inputs, trial.base_model, trial.variant.lora.target_modules)


def _targeted(
    inputs: Inputs, base: str, targets: str | Collection[str]
) -> list[tuple[Linear, int]] | None:
    """The same by `target_modules`. Of a pattern, which only PEFT can tell, all linear layers."""
    shape = shape_of_base(inputs.base_models[base])
    if shape is None:
        return None
    if isinstance(targets, str):
        return shape.every_linear
    ends = tuple(f".{target}" for target in targets)
    return [item for item in shape.every_linear if f".{item[0].name}".endswith(ends)]
