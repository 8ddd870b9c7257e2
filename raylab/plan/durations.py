"""Estimated durations of trials: those of equivalent trials, or in proportion to the work.

Model: two trials are equivalent if their identities differ only in fields that do not change the
time, such as the seed or the learning rate. A trial takes the median of equivalent trials. Without
one it takes its work times the median seconds per unit of work on the same base model with the
same method in the same compute dtype, else in any dtype, else with any method, else anywhere. The
unit of work is one SFT step with the batch size of the study. Assumptions:
- every example costs the same; its tokens are not counted here;
- SFT makes two passes over an example, forward and backward. DPO makes about twice as many:
  forward and backward over two answers, and cheaper forward passes of the reference model;
- loading, held-out losses and answers cost nothing unless they were measured.
A trial that is only evaluated again takes no time.
Invariant: all durations of a plan have one unit; it is seconds if any trial was measured.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any, Literal

from raylab.plan.trials import Trial
from raylab.spec.data.rows import Row, split
from raylab.spec.identity import fingerprint
from raylab.spec.study import Study
from raylab.store.records import Record

PASSES = {"sft": 2, "dpo": 4}
_FIELDS_WITHOUT_COST = {
    "seed",
    "seed.init",
    "seed.order",
    "seed.dropout",
    "parent",
    "lora.alpha",
    "lora.dropout",
    "lora.rslora",
    "training.beta",
    "training.learning_rate",
    "training.max_grad_norm",
    "training.scheduler",
    "training.warmup_ratio",
    "training.weight_decay",
}

Identity = Mapping[str, Any]


@dataclass(frozen=True)
class Durations:
    """The duration of each trial by its name. measured: how many of them are not estimates."""

    by_name: Mapping[str, float]
    unit: Literal["seconds", "sft_steps"]
    measured: int


def estimate_durations(
    study: Study,
    rows: Mapping[str, Sequence[Row]],
    trials: Sequence[Trial],
    records: Mapping[str, Record],
) -> Durations:
    """How long each of `trials` will take. records: of the store, by trial id."""
    measurements = _measurements(records, study.training.batch_size)
    examples = {name: len(split(found, study.held_out)[0]) for name, found in rows.items()}
    found: dict[str, float] = {}
    measured = 0
    for trial in trials:
        seconds = 0.0 if trial.id in records else measurements.seconds(trial.identity)
        measured += seconds is not None
        if seconds is None:
            training, batch_size = trial.variant.training, study.training.batch_size
            steps = examples[trial.variant.data] * training.epochs / batch_size
            work = steps * PASSES[trial.variant.method] / PASSES["sft"]
            seconds = work * measurements.seconds_per_work(trial.identity)
        found[trial.name] = seconds
    return Durations(found, "seconds" if measurements.rates else "sft_steps", measured)


@dataclass(frozen=True)
class _Measurements:
    """Times of finished trials: seconds of equivalent trials, and seconds per unit of work."""

    durations: dict[str, list[float]] = field(default_factory=dict)
    rates: dict[tuple[Any, ...], list[float]] = field(default_factory=dict)

    def seconds(self, identity: Identity) -> float | None:
        """The duration of equivalent trials, or None."""
        known = self.durations.get(_cost_id(identity))
        return median(known) if known else None

    def seconds_per_work(self, identity: Identity) -> float:
        """Seconds per unit of work, from the nearest kind of trial; 1 if none was measured."""
        return next((median(self.rates[k]) for k in _kinds(identity) if k in self.rates), 1.0)


def _measurements(records: Mapping[str, Record], batch_size: int) -> _Measurements:
    found = _Measurements()
    for record in records.values():
        work, seconds = _work_done(record, batch_size), record.metrics.get("seconds")
        if not work or not seconds:
            continue
        found.durations.setdefault(_cost_id(record.identity), []).append(seconds)
        for kind in _kinds(record.identity):
            found.rates.setdefault(kind, []).append(seconds / work)
    return found


def _work_done(record: Record, batch_size: int) -> float:
    """The work of a finished trial in SFT steps of `batch_size`; 0 if its record lacks it."""
    identity = record.identity
    batch = [identity.get(f"training.{key}", 0) for key in ("batch_size", "gradient_accumulation")]
    passes = PASSES.get(identity.get("method", ""), 0)
    examples = (record.metrics.get("steps") or 0) * batch[0] * batch[1]
    return float(examples / batch_size * passes / PASSES["sft"])


def _cost_id(identity: Identity) -> str:
    """A fingerprint that equivalent trials share."""
    fields = {key: value for key, value in identity.items() if key not in _FIELDS_WITHOUT_COST}
    return fingerprint(fields)


def _kinds(identity: Identity) -> Iterator[tuple[Any, ...]]:
    """The kinds of trials that a trial belongs to, the narrowest first."""
    dtype = identity.get("quantization.compute_dtype")
    yield identity["base_model"], identity["method"], dtype
    yield identity["base_model"], identity["method"]
    yield (identity["base_model"],)
    yield ()
