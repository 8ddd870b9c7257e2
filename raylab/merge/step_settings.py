"""What the steps of a merge take for one tensor: which entries stay, and how models are combined.

Model: a request, its thresholds and what is concluded of whole tensors, as numbers for
`raylab.merge.steps` and for the loops that do several steps at once
(`raylab.merge.compiled_blocks`, `raylab.merge.compiled_rank_merge`).
Invariant: the settings depend on the request and the models alone.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from raylab.merge.compiled_blocks import Combining, Keeping
from raylab.merge.compiled_rank_merge import Draws
from raylab.merge.model_rows import ModelRows
from raylab.merge.steps import hash_limit, keep_probabilities, stream_key
from raylab.merge.trim import Trims
from raylab.merge.whole_tensors import Concluded, combining
from raylab.weights.row_tiles import columns_of


class StepSettings:
    """The settings of every tensor. Trims may be added while threads ask for other tensors'."""

    def __init__(
        self,
        rows: ModelRows,
        trims: Sequence[Trims],
        concluded: Concluded,
        rescaling: Mapping[tuple[int, str], float],
    ) -> None:
        """See `raylab.merge.merger.Merger`."""
        self._rows, self._plan, self._request = rows, rows.plan, rows.plan.request
        self._trims, self._concluded, self._rescaling = trims, concluded, rescaling

    def keeping(self, name: str, models: Sequence[int]) -> Keeping:
        """Which entries of `models` stay, where that is said of one entry at a time."""
        if self._request.row.trims:
            trims = [self._trims[model][name] for model in models]
            uppers = [math.inf if trim.upper is None else trim.upper for trim in trims]
            return Keeping("trim", [(t.threshold, u) for t, u in zip(trims, uppers, strict=True)])
        if self._request.row.keeps == "random":
            return Keeping("drop", streams=[self.stream(model, name) for model in models])
        return Keeping()

    def stream(self, model: int, name: str) -> tuple[int, int]:
        """The key of a model's draws, and the limit of a hash."""
        assert self._request.seed is not None
        key = stream_key(self._request.seed, model, name)
        return key, hash_limit(self._plan.settings[name].densities[model])

    def draws(self, name: str, models: Sequence[int]) -> Draws:
        """By which limits the entries of `models` stay, where ranks in rows say it."""
        assert self._request.seed is not None
        columns, settings = columns_of(self._plan.shapes[name]), self._plan.settings[name]
        tables = [
            keep_probabilities(settings.densities[i], float(settings.own[i]["epsilon"]), columns)
            for i in models
        ]
        limits, shares = zip(*tables, strict=True)
        divisors = shares if settings.rescale == "density" else [np.ones(columns)] * len(tables)
        keys = [stream_key(self._request.seed, model, name) for model in models]
        return Draws(keys, limits, divisors)

    def combining(self, name: str, models: Sequence[int]) -> Combining | None:
        """How entries are combined; None where a rule looks at rows or matrices."""
        request, settings = self._request, self._plan.settings[name]
        if request.row.combines == "matrices":
            return None
        if request.row.combines == "tensors":
            return combining(self._rows, name, self._concluded.get(name))
        weights = [settings.weights[model] for model in models]
        factors = weights
        if settings.rescale == "l1":
            factors = [w * self._rescaling[i, name] for w, i in zip(weights, models, strict=True)]
        if settings.rescale == "density" and request.row.keeps == "random":
            factors = [w / settings.densities[i] for w, i in zip(weights, models, strict=True)]
        if request.row.elects:
            return Combining("disjoint", factors, weights, normalizes=settings.normalize)
        # All zero: nothing is added, and nothing is divided by.
        divisor = (sum(settings.weights) or 1.0) if settings.normalize else 1.0
        return Combining("sum", factors, bound=divisor)
