"""The lines between two models that a study asks for, and what it costs to evaluate them.

Model: a line leads from a model a to a model b over one base model. At t, from 0 to 1, stands the
base model plus (1 - t) times the task vector of a plus t times that of b. Its `points` are
t = k / (points - 1). A held-out answer of every data set goes through every point once; lines that
share an end share its point.
Invariant: what cannot be asked raises StudyError before anything is trained. Nothing is loaded.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from raylab.errors import StudyError
from raylab.number_format import plural
from raylab.plan.comparisons import Model, comparisons_of, models_named, plan_models
from raylab.plan.document import Documented
from raylab.plan.merges import Planned
from raylab.plan.trials import Inputs
from raylab.spec.connectivity import Connectivity
from raylab.spec.data.held_out import Prompts, held_out_by_data
from raylab.spec.data.rows import Row
from raylab.spec.study import Study

Shares = tuple[tuple[str, Fraction], ...]
"""A point: models by name, and the factor of the task vector of each, which is not zero."""


@dataclass(frozen=True)
class Line:
    """The line from a to b, and the number of its points, both ends included."""

    a: Model
    b: Model
    points: int

    @property
    def name(self) -> str:
        """The name in messages: `a~b`."""
        return f"{self.a.name}~{self.b.name}"

    @property
    def steps(self) -> list[tuple[float, Shares]]:
        """(t, shares) of each point. Factors are rounded once, so that a line and the same line
        from b to a have the same points."""
        last = self.points - 1
        return [(number / last, self._shares(Fraction(number, last))) for number in range(last + 1)]

    def _shares(self, t: Fraction) -> Shares:
        ends = ((self.a.name, 1 - t), (self.b.name, t))
        return tuple((name, share) for name, share in ends if share)


@dataclass(frozen=True)
class LineCost(Documented):
    """The lines over one base model, and the forward passes of their points over the answers."""

    base_model: str
    lines: int
    points: int
    held_out: int

    @property
    def passes(self) -> int:
        """Forward passes, one answer each."""
        return self.points * self.held_out

    @property
    def document(self) -> dict[str, Any]:
        """The cost as JSON."""
        return {**super().document, "passes": self.passes}

    @property
    def line(self) -> str:
        """The cost as a plan prints it."""
        return (
            f"connectivity of {self.base_model}: {plural(self.points, 'point')} of "
            f"{plural(self.lines, 'line')} x {self.held_out} held-out answers = "
            f"{self.passes:,} forward passes"
        )


def plan_lines(study: Study, models: Mapping[str, Model]) -> list[Line]:
    """All lines of `study`, each once, in the order of the file; of one that is named twice the
    first. Raises StudyError where an item names no two models that can be joined."""
    found: dict[str, Line] = {}
    for asked in study.connectivity:
        lines = list(_lines_of(study, models, asked))
        if not lines:
            raise _nothing_to_join(study, models, asked)
        for line in lines:
            found.setdefault(line.name, line)
    return list(found.values())


def line_answers(study: Study, rows: Mapping[str, Sequence[Row]]) -> dict[str, Prompts]:
    """The held-out answers of every data set on which lines are evaluated; none where the study
    asks for no line. Raises StudyError where a data set has none."""
    if not study.connectivity:
        return {}
    found = held_out_by_data(study, rows)
    empty = [name for name, data in study.data.items() if not data.concat and name not in found]
    if empty:
        raise StudyError(
            "connectivity asks for the loss on held-out answers, and a data set has none",
            found=f"{', '.join(empty)}: held_out {study.held_out:g}, evaluation.prompts "
            f"{study.evaluation.prompts}",
            expected="a held-out row of every data set, and one prompt or more",
            todo="raise `held_out` or `prompts`, or take `connectivity` out",
        )
    return found


def line_costs(study: Study, inputs: Inputs, planned: Sequence[Planned]) -> list[LineCost]:
    """The cost for each base model; none where the study asks for no line. Raises StudyError.

    Lines to a checkpoint, which are not evaluated, do not count.
    """
    held_out = sum(map(len, line_answers(study, inputs.rows).values()))
    lines = [
        line
        for line in plan_lines(study, plan_models(study, planned))
        if _has_adapters(line.a, inputs) and _has_adapters(line.b, inputs)
    ]
    costs = []
    for base in study.base_models:
        of_base = [line for line in lines if line.a.base_model == base]
        points = {shares for line in of_base for _, shares in line.steps}
        if of_base:
            costs.append(LineCost(base, len(of_base), len(points), held_out))
    return costs


def _lines_of(study: Study, models: Mapping[str, Model], asked: Connectivity) -> Iterator[Line]:
    for pair in comparisons_of(study, models, asked):
        # `all` means recipes, which the seed decides; merges are named one by one.
        if asked.seeds != "all" or pair.a.lineage:
            yield Line(pair.a, pair.b, asked.points)


def _has_adapters(model: Model, inputs: Inputs) -> bool:
    """Whether a model is a trial, a merge that is an adapter, or a finished adapter."""
    if model.lineage or model.is_adapter:
        return True
    found = inputs.models.get(model.name)
    return bool(found and found.directory and (found.directory / "adapter_config.json").is_file())


def _nothing_to_join(study: Study, models: Mapping[str, Model], asked: Connectivity) -> StudyError:
    if asked.pair is None:
        names = study.recipes if asked.seeds == "all" else asked.seeds or ()
        return StudyError(
            "connectivity joins the seeds of recipes, and none has a second seed",
            found=_seeds_of(study, models, names) or "no recipe",
            expected="two seeds or more, of recipes",
            todo="add a seed, or take `seeds` out of `connectivity`",
        )
    a, b = ({model.base_model for model in models_named(study, models, n)} for n in asked.pair)
    if a.isdisjoint(b):
        return StudyError(
            "a line of connectivity is over two base models",
            found="; ".join(
                f"{name} is over {', '.join(sorted(bases))}"
                for name, bases in zip(asked.pair, (a, b), strict=True)
            ),
            expected="two models of one base model",
            todo="name two models of one base model in `pair`",
        )
    return StudyError(
        "a pair of connectivity has no two models that can be joined",
        found=_seeds_of(study, models, asked.pair),
        expected="two different models of one seed, with equal values of what both sweep",
        todo="name two other models in `pair`, or the recipe under `seeds`",
    )


def _seeds_of(study: Study, models: Mapping[str, Model], names: Iterable[str]) -> str:
    """`a: seeds 1, 2; b: no seed`."""
    found = []
    for name in names:
        seeds = dict.fromkeys(str(model.seed) for model in models_named(study, models, name))
        seeds.pop("None", None)
        found.append(f"{name}: {'seeds ' + ', '.join(seeds) if seeds else 'no seed'}")
    return "; ".join(found)
