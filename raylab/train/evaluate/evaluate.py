"""Evaluation of a finished model, as its record keeps it.

Model: the model answers held-out prompts, and the study's rules judge the answers; besides, the
likelihood of the held-out answers of every data set is measured. `metrics` holds the rates of the
greedy answers by name, as the trials table has them. `answers` holds the rates of greedy, sampled
and expected answers, `excerpts` an answer for each rate that could break a limit, and
`likelihoods` a row for each data set. Decoding settings of the model that were not followed are
named as well. `asked` holds the rates of the answers to other prompts, by their fingerprint: those
of the data of models that it is merged with (`raylab.plan.asked`).
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
from raylab.spec.scoring.rates import Answer, Judge, example_of, judge_for
from raylab.spec.study import Study
from raylab.store.phase import Tell, silent
from raylab.store.records import ASKED
from raylab.train.evaluate.generate import Sample, generate_answers
from raylab.train.evaluate.likelihoods import measure_likelihoods

_NOT_IN_TRIALS = "answer_tokens"


@dataclass(frozen=True)
class ModelEvaluation:
    """The answers of a model, as rows of samples.jsonl, and the metrics of its record; answers to
    other prompts, as rows of beside.jsonl."""

    samples: Sequence[Mapping[str, Any]]
    metrics: Mapping[str, Any]
    beside: Sequence[Mapping[str, Any]] = ()


def evaluate_model(
    model: Any,
    tokenizer: Any,
    study: Study,
    rows: Mapping[str, Sequence[Row]],
    questions: Prompts,
    seed: int,
    max_length: int | None = None,
    beside: Mapping[str, Prompts] | None = None,
    tell: Tell = silent,
) -> ModelEvaluation:
    """Evaluate `model` by `questions` and by the held-out answers of all data sets.

    max_length: tokens of a prompt with its answer; None: as the study trains. beside: other prompts
    that it answers, by their fingerprint.
    """
    plain = [name for name, data in study.data.items() if data.concat is None and name in rows]
    judge = judge_for(study.evaluation, ([row.completion for row in rows[name]] for name in plain))
    aside = set_aside(model.generation_config.to_dict())
    if message := set_aside_message("the model", aside):
        print(message)
    samples = generate_answers(model, tokenizer, questions, study.evaluation, seed, tell)
    others = {
        id: generate_answers(model, tokenizer, prompts, study.evaluation, seed, tell)
        for id, prompts in (beside or {}).items()
    }
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
            **_asked(judge, others),
        },
        [s.as_row() | _verdicts(judge, s) for found in others.values() for s in found],
    )


def _verdicts(judge: Judge, sample: Sample) -> dict[str, bool | None]:
    verdicts = judge.verdicts(sample.as_answer)
    return {name: verdicts[name] for name in ("japanese", "repetition", "style")}


def _asked(judge: Judge, others: Mapping[str, Sequence[Sample]]) -> dict[str, Any]:
    rates = {id: _rates(judge, samples) for id, samples in others.items()}
    return {ASKED: rates} if rates else {}


def answer_metrics(judge: Judge, samples: Sequence[Sample], max_new_tokens: int) -> dict[str, Any]:
    """The rates of the greedy answers by name, and of all kinds in `answers`, with excerpts."""
    greedy = [sample for sample in samples if sample.draw == 0]
    answers = [sample.as_answer for sample in greedy]
    expected = [sample.expected_answer(max_new_tokens) for sample in greedy]
    rates = judge.rates(answers)
    excerpts = {rate: example_of(judge, answers, rate) for rate in Limits.model_fields}
    return {
        **{name: value for name, value in rates.items() if name != _NOT_IN_TRIALS},
        "answers": _rates(judge, samples, expected=expected),
        "excerpts": {rate: text for rate, text in excerpts.items() if text is not None},
    }


def _rates(judge: Judge, samples: Sequence[Sample], **more: Sequence[Answer]) -> dict[str, Any]:
    """The rates of greedy answers, of sampled ones and of `more`, by kind, where there are any."""
    kinds = {
        "greedy": [sample.as_answer for sample in samples if sample.draw == 0],
        "sampled": [sample.as_answer for sample in samples if sample.draw],
        **more,
    }
    return {
        kind: {"count": len(found), **judge.rates(found)} for kind, found in kinds.items() if found
    }
