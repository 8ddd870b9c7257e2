"""How long each trial will take: as long as trials alike took, or in proportion to its work.

Model: trials are alike where their identities differ in nothing that costs time, such as the
seed or the learning rate. A trial without one takes its work times the seconds that a unit of
work took elsewhere: on the same base model with the same method, on the same base model, or
anywhere. The unit of work is one SFT step of the study's batch size. Assumed is that
- every example costs the same, for its tokens are not counted here;
- SFT makes two passes over each example, forward and backward, and DPO about twice as many: two
  answers, forward and backward, and the reference model's forward passes, which are cheaper;
- loading, held-out losses and questions cost nothing where nothing was measured.
A trial that is only asked other questions takes no time.
Invariant: all durations of a plan have one unit, seconds as soon as any trial was measured.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any, Literal

from raylab.plan.trials import Trial
from raylab.spec.data.rows import Row, is_held_out
from raylab.spec.identity import fingerprint
from raylab.spec.study import Study
from raylab.store.records import Record

PASSES = {"sft": 2, "dpo": 4}
_TIMELESS = {
    "seed",
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
_BATCH = ("batch_size", "gradient_accumulation")

Identity = Mapping[str, Any]


@dataclass(frozen=True)
class Durations:
    """The duration of each trial by name; `measured` counts those that needed no estimate."""

    by_name: Mapping[str, float]
    unit: Literal["seconds", "sft_steps"]
    measured: int


def estimate_durations(
    study: Study,
    rows: Mapping[str, Sequence[Row]],
    trials: Sequence[Trial],
    records: Mapping[str, Record],
) -> Durations:
    """How long each of `trials` will take, given the records of the store by trial id."""
    past = _Past.of(records, study.training.batch_size)
    examples = {name: _count_training(rows[name], study.held_out) for name in rows}
    found: dict[str, float] = {}
    measured = 0
    for trial in trials:
        seconds = 0.0 if trial.id in records else past.seconds(trial.identity)
        measured += seconds is not None
        if seconds is None:
            seconds = _work(study, trial, examples) * past.rate(trial.identity)
        found[trial.name] = seconds
    return Durations(found, "seconds" if past.rates else "sft_steps", measured)


def _count_training(rows: Sequence[Row], held_out: float) -> int:
    return sum(not is_held_out(row.user_text, held_out) for row in rows)


def _work(study: Study, trial: Trial, examples: Mapping[str, int]) -> float:
    """The work of `trial` in SFT steps of the study's batch size."""
    steps = examples[trial.variant.data] * trial.variant.training.epochs / study.training.batch_size
    return steps * PASSES[trial.variant.method] / PASSES["sft"]


def _work_done(record: Record, batch_size: int) -> float:
    """The work that a finished trial was, in the same unit; 0 where its record does not say."""
    batch = [record.identity.get(f"training.{key}", 0) for key in _BATCH]
    passes = PASSES.get(record.identity.get("method", ""), 0)
    examples = (record.metrics.get("steps") or 0) * batch[0] * batch[1]
    return float(examples / batch_size * passes / PASSES["sft"])


@dataclass(frozen=True)
class _Past:
    """What finished trials took: seconds of those alike, and seconds for a unit of work."""

    alike: dict[str, list[float]] = field(default_factory=dict)
    rates: dict[tuple[Any, ...], list[float]] = field(default_factory=dict)

    @classmethod
    def of(cls, records: Mapping[str, Record], batch_size: int) -> _Past:
        past = cls()
        for record in records.values():
            work, seconds = _work_done(record, batch_size), record.metrics.get("seconds")
            if not work or not seconds:
                continue
            past.alike.setdefault(_cost(record.identity), []).append(seconds)
            for key in _kinds(record.identity):
                past.rates.setdefault(key, []).append(seconds / work)
        return past

    def seconds(self, identity: Identity) -> float | None:
        """What trials alike took, or None."""
        known = self.alike.get(_cost(identity))
        return median(known) if known else None

    def rate(self, identity: Identity) -> float:
        """Seconds for a unit of work, from the nearest kind of trial; 1 where none was measured."""
        return next((median(self.rates[k]) for k in _kinds(identity) if k in self.rates), 1.0)


def _cost(identity: Identity) -> str:
    """What trials that are alike share."""
    return fingerprint({key: value for key, value in identity.items() if key not in _TIMELESS})


def _kinds(identity: Identity) -> Iterator[tuple[Any, ...]]:
    """Kinds that a trial belongs to, the narrowest first."""
    yield identity["base_model"], identity["method"]
    yield (identity["base_model"],)
    yield ()
