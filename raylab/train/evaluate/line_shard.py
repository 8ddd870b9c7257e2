"""An opened `LineJob`: its base model is loaded once, and each point's answers go through it.

Model: the base model is held as it was in training. At a point each adapter of a model's lineage
is added times the share of the model (`raylab.train.evaluate.shifted_model`); an adapter that two
models share has the sum of their shares. The loss of an answer is the sum over its tokens of
-log p in nats, in float64, out of one forward pass without padding.
Invariant: as in `raylab.train.evaluate.line_job`. One thread count for every shard, so that a
CPU's sums have the same bits.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from raylab.errors import ModelError
from raylab.plan.connectivity import Shares
from raylab.store.filesystem import Store, study_scratch
from raylab.store.records import ADAPTER, trial_key
from raylab.store.references import location_of
from raylab.train.attempts import quiet_libraries
from raylab.train.base_checkpoint import StudyAdapters
from raylab.train.evaluate.likelihoods import FramedAnswer, framed_answer
from raylab.train.evaluate.line_job import LineJob, LineTask
from raylab.train.evaluate.loaded_models import asking, predict, reason_of
from raylab.train.evaluate.shifted_model import ShiftedModel
from raylab.train.kept_values import keep_values
from raylab.train.model import base_directory, device_of_this_process, load_base, load_tokenizer


class LineShard:
    """The call of a job: `losses`."""

    def __init__(self, job: LineJob) -> None:
        """Load the tokenizer. Raises ModelError."""
        self._job = job
        source = job.study.base_models[job.base.name]
        self._base, self._trusted = base_directory(job.base), source.trust_remote_code
        self._tokenizer = load_tokenizer(self._base, source, job.study.template_date)
        self._framed: dict[str, list[FramedAnswer]] = {}

    def losses(self, places: Sequence[int]) -> list[dict[str, Any]]:
        """The result of each of these tasks of the job.

        {"losses": one for each answer, float64, "tokens": of each answer, "failed": ""}; or the
        reason under "failed" where the point cannot be formed or asked, and no losses.
        """
        with quiet_libraries(), asking(self._job.threads):
            return [self._task(self._job.tasks[place]) for place in places]

    def _task(self, task: LineTask) -> dict[str, Any]:
        answers = self._answers(task.data)
        tokens = [max(0, len(answer.ids) - answer.start) for answer in answers]
        try:
            with self._model.shifted(self._adapters(task.shares)) as model:
                losses = [
                    answer_loss(model, answer) if count else 0.0
                    for answer, count in zip(answers, tokens, strict=True)
                ]
        except Exception as error:  # Of this point alone; the others are evaluated.
            return {"losses": np.empty(0), "tokens": tokens, "failed": reason_of(error)}
        return {"losses": np.array(losses, dtype=np.float64), "tokens": tokens, "failed": ""}

    @cached_property
    def _model(self) -> ShiftedModel:
        quantization = self._job.study.quantization
        model = load_base(self._base, quantization, trust_remote_code=self._trusted)
        keep_values(model)
        return ShiftedModel(model.eval())

    def _answers(self, data: str) -> list[FramedAnswer]:
        if data not in self._framed:
            most = self._job.study.training.max_length
            rows = self._job.answers[data]
            self._framed[data] = [framed_answer(self._tokenizer, row, most) for row in rows]
        return self._framed[data]

    def _adapters(self, shares: Shares) -> dict[Path, float]:
        """The adapters of a point, and how much of each is added; of one that several models
        have, the exact sum, rounded once."""
        found: dict[Path, Fraction] = {}
        for name, share in shares:
            for path in self._lineage(name):
                found[path] = found.get(path, Fraction(0)) + share
        return {path: float(share) for path, share in found.items()}

    def _lineage(self, name: str) -> list[Path]:
        """The adapters whose task vectors make that of a model. Raises ModelError."""
        job = self._job
        if name in job.trials:
            adapters = StudyAdapters(job.trials, self._base, Store(job.uri), self._trusted)
            return [*adapters.lineage(job.trials[name]), adapters.directory(name)]
        if name in job.merges:
            store, key = Store(job.uri), trial_key(job.merges[name].folder, ADAPTER)
            return [store.local(key, study_scratch(store))]
        place = location_of(base_directory(job.finished[name])) if name in job.finished else None
        if place is None or not place.adapters:
            raise ModelError(
                f"{name} is a checkpoint",
                expected="adapters: their task vectors are added to the base model as it is held",
            )
        return list(place.adapters)


def answer_loss(model: nn.Module, answer: FramedAnswer) -> float:
    """The sum of -log p over the tokens of an answer in nats, in float64, rounded once."""
    logits = predict(model, answer, False).logits.to(device_of_this_process())
    tokens = torch.tensor(answer.ids[answer.start :], device=logits.device)[:, None]
    log_p = logits.double().log_softmax(-1).gather(1, tokens)[:, 0]
    return -math.fsum(log_p.tolist())
