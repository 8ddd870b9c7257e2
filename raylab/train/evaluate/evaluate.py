"""Evaluation of a finished model, as its record keeps it.

Model: the model answers held-out prompts, and the study's rules judge the answers; besides, the
likelihood of the held-out answers of every data set is measured. `metrics` holds the rates of the
greedy answers by name, as the trials table has them. `answers` holds the rates of greedy, sampled
and expected answers, `excerpts` an answer for each rate that could break a limit, and
`likelihoods` a row for each data set. Decoding settings of the model that were not followed are
named as well.
Invariant: trials and merges are evaluated alike. The same model gives the same evaluation.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from raylab.spec.data.held_out import Prompts, held_out_answers
from raylab.spec.data.rows import Row
from raylab.spec.decoding import SET_ASIDE, set_aside, set_aside_message
from raylab.spec.evaluation import Limits
from raylab.spec.scoring.rates import Judge, example_of, judge_for
from raylab.spec.study import Study
from raylab.store.phase import Tell, silent
from raylab.train.evaluate.generate import Sample, generate_answers
from raylab.train.evaluate.likelihoods import measure_likelihoods

_NOT_IN_TRIALS = "answer_tokens"


@dataclass(frozen=True)
class ModelEvaluation:
    """The answers of a model, as rows of samples.jsonl, and the metrics of its record."""

    samples: Sequence[Mapping[str, Any]]
    metrics: Mapping[str, Any]


def evaluate_model(
    model: Any,
    tokenizer: Any,
    study: Study,
    rows: Mapping[str, Sequence[Row]],
    questions: Prompts,
    seed: int,
    max_length: int | None = None,
    tell: Tell = silent,
) -> ModelEvaluation:
    """Evaluate `model` by `questions` and by the held-out answers of all data sets.

    max_length: tokens of a prompt with its answer; None: as the study trains.
    """
    plain = [name for name, data in study.data.items() if data.concat is None and name in rows]
    judge = judge_for(study.evaluation, ([row.completion for row in rows[name]] for name in plain))
    aside = set_aside(model.generation_config.to_dict())
    if message := set_aside_message("the model", aside):
        print(message)
    samples = generate_answers(model, tokenizer, questions, study.evaluation, seed, tell)
    likelihoods = measure_likelihoods(
        model,
        tokenizer,
        held_out_answers(study, rows),
        max_length or study.training.max_length,
        tell,
    )
    return ModelEvaluation(
        [sample.as_row() | _verdicts(judge, sample) for sample in samples],
        {
            **answer_metrics(judge, samples, study.evaluation.max_new_tokens),
            "likelihoods": {name: value.as_row() for name, value in likelihoods.items()},
            **({SET_ASIDE: aside} if aside else {}),
        },
    )


def _verdicts(judge: Judge, sample: Sample) -> dict[str, bool | None]:
    verdicts = judge.verdicts(sample.as_answer)
    return {name: verdicts[name] for name in ("japanese", "repetition", "style")}


def answer_metrics(judge: Judge, samples: Sequence[Sample], max_new_tokens: int) -> dict[str, Any]:
    """The rates of the greedy answers by name, and of all kinds in `answers`, with excerpts."""
    greedy = [sample for sample in samples if sample.draw == 0]
    answers = [sample.as_answer for sample in greedy]
    kinds = {
        "greedy": answers,
        "sampled": [sample.as_answer for sample in samples if sample.draw],
        "expected": [sample.expected_answer(max_new_tokens) for sample in greedy],
    }
    rates = judge.rates(answers)
    excerpts = {rate: example_of(judge, answers, rate) for rate in Limits.model_fields}
    return {
        **{name: value for name, value in rates.items() if name != _NOT_IN_TRIALS},
        "answers": {
            kind: {"count": len(found), **judge.rates(found)}
            for kind, found in kinds.items()
            if found
        },
        "excerpts": {rate: text for rate, text in excerpts.items() if text is not None},
    }
