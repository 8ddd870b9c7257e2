"""The parts that the tables of functions are made of: which are wanted, missing, and their rows.

Model: a pair of models on the held-out answers of a data set is one part; on their own answers
another; and a comparison has one more for each, with the tokens that differ most. A key holds the
contents of both models, the answers, and how the base model is held and framed. A pair's rows are
kept in the order of the two contents, and turned round where a study names them the other way.
Invariant: equal keys have equal rows. Names of models and of data sets are in no key.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from raylab.cluster.study_context import StudyContext
from raylab.plan.asked import data_asked
from raylab.plan.comparisons import PlannedComparison
from raylab.plan.functions import compared_answers, questions_answered
from raylab.plan.merges import Planned
from raylab.plan.trials import Trial
from raylab.spec.data.held_out import Prompts
from raylab.spec.data.rows import rows_fingerprint
from raylab.spec.identity import fingerprint
from raylab.store.parts import Parts
from raylab.store.records import SAMPLES, Record, trial_key
from raylab.train.evaluate.function_job import Answer, Usage
from raylab.train.evaluate.function_rows import (
    Pair,
    UsageResult,
    differing_rows,
    function_rows,
)

HELD_OUT, OWN = "held_out", "own"
_FORM = 1
"""To be raised when the same models have other rows than before."""
_TURNED = {"kl_ab": "kl_ba", "kl_ba": "kl_ab"}

UsageKey = tuple[str, str]
"""(HELD_OUT, data set) or (OWN, model)."""
Row = dict[str, Any]


@dataclass(frozen=True)
class OwnAnswers:
    """The greedy answers of a model. id: of what was asked and answered."""

    data: str
    id: str
    questions: Prompts
    planned: Planned


@dataclass(frozen=True)
class WantedFunctions:
    """All pairs over one base model. sides: the contents of each model, the base model last."""

    context: StudyContext = field(repr=False)
    base: str
    sides: Mapping[str, str]
    common: str
    comparisons: Sequence[PlannedComparison]
    held_out: Mapping[str, Prompts] = field(repr=False)
    own: Mapping[str, OwnAnswers] = field(repr=False)

    @cached_property
    def pairs(self) -> list[Pair]:
        """All pairs of models."""
        return list(itertools.combinations(self.sides, 2))

    @cached_property
    def everything(self) -> list[tuple[Pair, tuple[UsageKey, ...], str]]:
        """Each pair with the usages and the data of each kind of answers that it is compared on."""
        return [(pair, *source) for pair in self.pairs for source in self._sources(pair)]

    @cached_property
    def _ids(self) -> dict[str, str]:
        """Fingerprints of the held-out answers by data set."""
        return {name: rows_fingerprint(rows) for name, rows in self.held_out.items()}

    def _sources(self, pair: Pair) -> Iterator[tuple[tuple[UsageKey, ...], str]]:
        """(usages, data) of all kinds of answers on which a pair is compared."""
        for name in self.held_out:
            yield ((HELD_OUT, name),), name
        owners = [name for name in pair if name in self.own]
        if owners:
            data = dict.fromkeys(self.own[name].data for name in owners)
            yield tuple((OWN, name) for name in owners), "+".join(data)

    def key_of_pair(self, pair: Pair, usages: Sequence[UsageKey]) -> str:
        """The key of the part of a pair, in either order."""
        sides = sorted(self._side(name, usages) for name in pair)
        return fingerprint({"functions": sides, "on": self._on(usages), "common": self.common})

    def key_of_tokens(self, pair: Pair, usages: Sequence[UsageKey]) -> str:
        """The key of the part of an ordered pair's tokens that differ."""
        sides = [self._side(name, usages) for name in pair]
        return fingerprint({"differing": sides, "on": self._on(usages), "common": self.common})

    def missing(self, parts: Parts) -> dict[UsageKey, Usage]:
        """What is to be found, to have all parts that are not in `parts`."""
        pairs: dict[UsageKey, dict[Pair, None]] = {}
        watched: dict[UsageKey, dict[Pair, None]] = {}
        compared = {(c.a.name, c.b.name) for c in self.comparisons}
        for pair, usages, _ in self.everything:
            orders = [order for order in (pair, pair[::-1]) if order in compared]
            again = [o for o in orders if self.key_of_tokens(o, usages) not in parts]
            if not again and self.key_of_pair(pair, usages) in parts:
                continue
            for usage in usages:
                pairs.setdefault(usage, {})[pair] = None
                watched.setdefault(usage, {}).update(dict.fromkeys(again))
        return {
            usage: Usage(
                answers=self._answers(usage),
                pairs=tuple(found),
                watched=tuple(watched[usage]),
                with_states=usage[0] == HELD_OUT,
            )
            for usage, found in pairs.items()
        }

    def job_id(self, usages: Mapping[UsageKey, Usage]) -> str:
        """The fingerprint of all that decides the results of a job for `usages`."""
        asked = [
            [*self._answers_id(key), usage.pairs, usage.watched] for key, usage in usages.items()
        ]
        return fingerprint([self.common, self.sides, asked])

    def add(
        self, parts: Parts, found: Mapping[UsageKey, UsageResult], failed: Mapping[str, str]
    ) -> None:
        """Add what was found to `parts`, but nothing of models that failed."""
        for pair, usages, _ in self.everything:
            results = [found[usage] for usage in usages if usage in found]
            is_complete = len(results) == len(usages) and not failed.keys() & set(pair)
            if not is_complete or any(pair not in result.usage.pairs for result in results):
                continue
            rows = {"functions": self._in_order(pair, function_rows(pair, results))}
            if usages[0][0] == HELD_OUT:
                rows["cka"] = results[0].cka_rows(pair)
            parts.add(self.key_of_pair(pair, usages), rows)
            for order in {pair, pair[::-1]} & set(results[0].usage.watched):
                kept = {"differing_tokens": differing_rows(order, results)}
                parts.add(self.key_of_tokens(order, usages), kept)

    def rows(self, parts: Parts, table: str) -> Iterator[Row]:
        """The rows of a table, out of `parts`, in the order of the study."""
        if table == "differing_tokens":
            yield from self._differing_rows(parts)
            return
        for pair, usages, data in self.everything:
            names = {"a": pair[0], "b": pair[1], "data": data}
            if table == "functions":
                names["answers"] = usages[0][0]
            found = parts.rows(self.key_of_pair(pair, usages), table)
            yield from ({**row, **names} for row in self._in_order(pair, found))

    def _differing_rows(self, parts: Parts) -> Iterator[Row]:
        for c in self.comparisons:
            order = (c.a.name, c.b.name)
            pair = order if order in self.pairs else order[::-1]
            for usages, data in self._sources(pair):
                names = {"comparison": c.name, "a": order[0], "b": order[1], "data": data}
                found = parts.rows(self.key_of_tokens(order, usages), "differing_tokens")
                yield from ({**row, **names, "answers": usages[0][0]} for row in found)

    def _side(self, name: str, usages: Sequence[UsageKey]) -> list[str]:
        """The contents of a model, and what it answered if its own answers are used."""
        has_own = (OWN, name) in usages
        return [self.sides[name], self.own[name].id if has_own else ""]

    def _answers_id(self, usage: UsageKey) -> tuple[str, str]:
        kind, name = usage
        return kind, self._ids[name] if kind == HELD_OUT else self.own[name].id

    def _on(self, usages: Sequence[UsageKey]) -> list[str]:
        return [kind if kind == OWN else self._ids[name] for kind, name in usages[:1]]

    def _in_order(self, pair: Pair, rows: Sequence[Row]) -> list[Row]:
        """Rows of a pair in the order of its contents, or the other way round; twice is none."""
        a, b = (self.sides[name] for name in pair)
        if a <= b:
            return list(rows)
        return [{_TURNED.get(key, key): value for key, value in row.items()} for row in rows]

    def _answers(self, usage: UsageKey) -> tuple[Answer, ...]:
        kind, name = usage
        if kind == HELD_OUT:
            return tuple(map(Answer, self.held_out[name]))
        own = self.own[name]
        text = self.context.store.read(trial_key(own.planned.folder, SAMPLES)).decode()
        samples = [json.loads(line) for line in text.split("\n") if line]
        greedy = [sample for sample in samples if not sample["draw"]]
        return tuple(
            Answer(row, tuple(sample["token_ids"]), sample["stopped"])
            for row, sample in zip(own.questions, greedy, strict=False)
        )


def wanted_functions(
    context: StudyContext, records: Mapping[str, Record]
) -> Iterator[WantedFunctions]:
    """All parts of the tables, for every base model with a model that is done."""
    study = context.study
    held_out = compared_answers(study, context.inputs.rows)
    if not held_out:
        return
    contents, left_out = context.contents(records), context.left_out(records)
    planned = {item.name: item for item in context.planned}
    for base in dict.fromkeys(model.base_model for model in context.models.values()):
        identity = context.inputs.base_models[base].identity
        there = [
            name
            for name, model in context.models.items()
            if model.base_model == base and name in contents
        ]
        sides = {name: _side_of(planned.get(name), contents[name], planned) for name in there}
        own = {
            name: found
            for name in there
            if name in planned and (found := _own_answers(context, planned[name], records))
        }
        yield WantedFunctions(
            context=context,
            base=base,
            sides={**sides, base: fingerprint(["base", identity])},
            common=fingerprint([_FORM, *how_asked(context, base)]),
            comparisons=[
                c
                for c in context.comparisons
                if c.a.base_model == base
                and {c.a.name, c.b.name} <= {*sides, base}
                and not {c.a.name, c.b.name} & left_out.keys()
            ],
            held_out=held_out,
            own=own,
        )


def how_asked(context: StudyContext, base: str) -> list[Any]:
    """What decides how models over a base model are held, and how answers are framed."""
    study = context.study
    return [
        context.inputs.base_models[base].identity,
        study.quantization.model_dump(mode="json"),
        study.training.max_length,
        study.base_models[base].template,
        study.template_date.isoformat(),
    ]


def _side_of(item: Planned | None, contents: str, planned: Mapping[str, Planned]) -> str:
    """The contents of a model, and how a chain was made of them."""
    if not isinstance(item, Trial):
        return fingerprint(["as it is", contents])
    lineage = [planned[name] for name in (*item.lineage, item.name)]
    chains = [one.variant.chain if one.parent else "" for one in lineage if isinstance(one, Trial)]
    return fingerprint(["trial", contents, chains])


def _own_answers(
    context: StudyContext, item: Planned, records: Mapping[str, Record]
) -> OwnAnswers | None:
    """The greedy answers of a model; None if it was asked other questions, or none."""
    record = records.get(item.id)
    if record is None or record.evaluation != context.evaluation or SAMPLES not in record.files:
        return None
    study, rows = context.study, context.inputs.rows
    questions = questions_answered(study, rows, item)
    if not questions:
        return None
    asked = [record.files[SAMPLES].sha256, rows_fingerprint(questions)]
    return OwnAnswers(data_asked(item, rows), fingerprint(asked), questions, item)
