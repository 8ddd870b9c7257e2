"""What a finding rests on that a reader should know: marked models, a single seed.

Invariant: a finding that uses a marked model or one seed alone says so; one that does not is
silent.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from raylab.report.findings.finding import Sentence
from raylab.report.findings.trained_models import Model


def caveats_of(models: Sequence[Model]) -> tuple[Sentence, ...]:
    """What to say of a finding that rests on `models`."""
    return tuple(_caveats(models))


def _caveats(models: Sequence[Model]) -> Iterator[Sentence]:
    marked = [model.name for model in models if model.marked]
    if marked:
        values = {"count": len(marked), "total": len(models), "names": tuple(marked)}
        yield Sentence("caveat.marked", values, "fair")
    seeds = {model.seed for model in models}
    if len(seeds) == 1:
        yield Sentence("caveat.one_seed", {"seed": min(seeds)}, "fair")
