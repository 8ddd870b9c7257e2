"""The job of comparing what models predict: what an actor opens, and its calls.

Model: a `FunctionJob` names the models over one base model, and `Usage`s: the answers of one data
set, or those of one model, with the pairs that are compared on them. `frame` counts the tokens of
every answer; the caller then cuts each usage into blocks of answers and hands some blocks to each
`compare`. A call goes through the models, keeps what each predicts for its answers in main
memory, and then compares the pairs answer by answer. CKA is taken over the tokens of a block.
Invariant: what comes back for a block depends on the block and the models alone, never on what
else an actor was handed. A model that cannot be loaded or asked is named, and the others go on.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

from raylab.imports import loading
from raylab.plan.merges import PlannedMerge
from raylab.plan.trials import Trial
from raylab.spec.data.rows import Row
from raylab.spec.models import ResolvedModel
from raylab.spec.study import Study
from raylab.store.references import ModelLocation

if TYPE_CHECKING:
    from raylab.train.evaluate.function_shard import FunctionShard

KEPT_TOKENS = 20
"""How many of the tokens that differ most are kept."""


@dataclass(frozen=True)
class Answer:
    """A row's prompt with the row's own answer, or with the tokens that a model answered."""

    row: Row
    token_ids: tuple[int, ...] | None = None
    stopped: bool = False
    """Whether the model ended its answer; the end is then one of its tokens."""


@dataclass(frozen=True)
class Usage:
    """Answers on which pairs of models are compared.

    watched: ordered pairs of which the tokens that differ most are kept. with_states: whether CKA
    is taken.
    """

    answers: tuple[Answer, ...]
    pairs: tuple[tuple[str, str], ...]
    watched: tuple[tuple[str, str], ...] = ()
    with_states: bool = False

    @property
    def models(self) -> tuple[str, ...]:
        """The models that are asked, each once."""
        return tuple(dict.fromkeys(name for pair in self.pairs for name in pair))


@dataclass(frozen=True)
class Block:
    """Some answers of a usage, from `first` to before `stop`."""

    usage: int
    first: int
    stop: int


@dataclass(frozen=True)
class FunctionJob:
    """Everything that an actor needs. Names of `usages` are those of trials, merges, finished
    models, or of the base model."""

    study: Study
    base: ResolvedModel
    trials: Mapping[str, Trial]
    merges: Mapping[str, PlannedMerge]
    finished: Mapping[str, ResolvedModel]
    usages: tuple[Usage, ...] = field(repr=False)
    uri: str
    id: str = ""
    """Its fingerprint: equal ids have equal results."""
    threads: int = 1
    places: Mapping[str, ModelLocation] = field(default_factory=dict)
    out: str | None = None

    @cached_property
    def models(self) -> tuple[str, ...]:
        """All models, in one order for every shard."""
        return tuple(dict.fromkeys(name for usage in self.usages for name in usage.models))

    def open(self) -> FunctionShard:
        """Find the base model and its tokenizer. A worker has its own GPU before it calls this,
        because the libraries below ask for devices. Raises ModelError."""
        with loading():
            from raylab.train.evaluate.function_shard import FunctionShard

        return FunctionShard(self)
