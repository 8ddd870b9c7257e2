"""All that is asked of a finished model, and what its record keeps of that.

Model: answers to the questions, judged as the study judges, and the likelihood of held-out answers
of every data set. `metrics` holds the rates of greedy answers by name, as the trials table has
them; `answers` the rates of greedy, sampled and expected ones; `excerpts` an answer for each rate
that could break a limit; `likelihoods` by data set.
Invariant: the same for trials and merges; a model that is asked again gives the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from raylab.spec.data.held_out import Questions, held_out_answers
from raylab.spec.data.rows import Row
from raylab.spec.evaluation import Limits
from raylab.spec.scoring.rates import Judge, example_of, judge_of
from raylab.spec.study import Study
from raylab.train.evaluate.generate import Sample, ask
from raylab.train.evaluate.likelihoods import likelihoods

_NOT_IN_TRIALS = "answer_tokens"


@dataclass(frozen=True)
class Interview:
    """What a model said, as rows of samples.jsonl and as metrics of its record."""

    rows: Sequence[Mapping[str, Any]]
    metrics: Mapping[str, Any]


def interview(
    model: Any,
    tokenizer: Any,
    study: Study,
    rows: Mapping[str, Sequence[Row]],
    questions: Questions,
    seed: int,
    max_length: int | None = None,
) -> Interview:
    """Put `questions` and the held-out answers of all data sets to `model`."""
    judge = study_judge(study, rows)
    samples = ask(model, tokenizer, questions, study.evaluation, seed)
    held_out = held_out_answers(study, rows)
    room = max_length or study.training.max_length
    found = likelihoods(model, tokenizer, held_out, room)
    known = {"likelihoods": {name: value.as_row() for name, value in found.items()}}
    return Interview(
        [sample.as_row() | _verdicts(judge, sample) for sample in samples],
        judged(judge, samples, study.evaluation.max_new_tokens) | known,
    )


def study_judge(study: Study, rows: Mapping[str, Sequence[Row]]) -> Judge:
    """The judge of `study`, taught by the answers of its data sets."""
    plain = [name for name, data in study.data.items() if data.concat is None]
    return judge_of(
        study.evaluation, ([row.completion for row in rows[name]] for name in plain if name in rows)
    )


def _verdicts(judge: Judge, sample: Sample) -> dict[str, bool | None]:
    verdicts = judge.verdicts(sample.as_answer)
    return {name: verdicts[name] for name in ("japanese", "repetition", "style")}


def judged(judge: Judge, samples: Sequence[Sample], room: int) -> dict[str, Any]:
    """The rates of `samples`: greedy by name, all in `answers`, and an example for each."""
    greedy = [sample for sample in samples if sample.draw == 0]
    said = [sample.as_answer for sample in greedy]
    kinds = {
        "greedy": said,
        "sampled": [sample.as_answer for sample in samples if sample.draw],
        "expected": [sample.expected_answer(room) for sample in greedy],
    }
    rates = judge.rates(said)
    examples = {rate: example_of(judge, said, rate) for rate in Limits.model_fields}
    return {
        **{name: value for name, value in rates.items() if name != _NOT_IN_TRIALS},
        "answers": {
            kind: {"count": len(answers), **judge.rates(answers)}
            for kind, answers in kinds.items()
            if answers
        },
        "excerpts": {rate: text for rate, text in examples.items() if text is not None},
    }
