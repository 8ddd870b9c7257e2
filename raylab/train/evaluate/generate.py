"""Answers that a model generates: greedy ones, and sampled ones.

Model: the model answers prompts in batches, framed by its chat template. An answer ends with a
stop token (`eos`) or at `max_new_tokens` (`length`). `raylab.spec.scoring.rates` judges answers.
Invariant: generation changes nothing: it runs in eval mode, without gradients, and restores every
random state. A greedy answer does not depend on the other prompts of its batch, nor on decoding
settings that came with the model (`raylab.spec.decoding`). Sampled answers are a function of the
model, the prompts, the study's settings and the seed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import torch
from peft import PeftModel
from transformers import GenerationConfig

from raylab.plan.memory import ANSWERS_BATCH
from raylab.spec.data.rows import Row, Turn
from raylab.spec.evaluation import Evaluation
from raylab.spec.identity import fingerprint
from raylab.spec.scoring.rates import Answer
from raylab.store.phase import ANSWERING, Tell, silent
from raylab.train.random_state import preserved_random_state


@dataclass(frozen=True)
class Sample:
    """One answer: `tokens` counts those generated, without the one that ended it.

    draw: 0 for the greedy answer, then 1, 2, ... for sampled ones; reason: eos or length;
    expected_tokens: of the data's own answer, by the same tokenizer.
    """

    prompt: str
    answer: str
    expected: str
    tokens: int
    stopped: bool
    reason: str = "eos"
    draw: int = 0
    token_ids: tuple[int, ...] = ()
    expected_tokens: int | None = None
    earlier: tuple[Turn, ...] = ()
    """The turns before the prompt."""
    asked: Mapping[str, Any] | None = None
    """The whole conversation that was asked (`chat`) and its `tools`, where it is more than the
    texts of `earlier` and `prompt`."""

    @property
    def as_answer(self) -> Answer:
        """The answer as it is judged."""
        return Answer(self.answer, self.tokens, self.stopped)

    def expected_answer(self, max_new_tokens: int) -> Answer:
        """The data's own answer to the prompt, judged as if a model had generated it."""
        tokens = self.expected_tokens
        return Answer(self.expected, tokens, stopped=tokens is None or tokens < max_new_tokens)

    def as_row(self) -> dict[str, Any]:
        """The sample as a row of samples.jsonl; what its question lacks is not mentioned.

        `earlier` holds [role, text] each; `chat` and `tools` are those that templates take.
        """
        row = asdict(self) | {"token_ids": list(self.token_ids)}
        del row["earlier"], row["asked"]
        if self.earlier:
            row["earlier"] = [[turn.role, turn.text] for turn in self.earlier]
        return row | dict(self.asked or {})


def generate_answers(
    model: Any,
    tokenizer: Any,
    questions: Sequence[Row],
    evaluation: Evaluation,
    seed: int,
    tell: Tell = silent,
) -> list[Sample]:
    """Answers of `model` to `questions`, each with the answer that the data has for it.

    The greedy answers come first, then each draw of sampled ones, in the order of the questions.
    """
    samples: list[Sample] = []
    was_training, count = model.training, (1 + evaluation.sampled) * len(questions)
    model.eval()
    with preserved_random_state(), torch.no_grad():
        for draw in range(1 + evaluation.sampled):
            # A seed for each draw, from which no training of the study draws.
            torch.manual_seed(int(fingerprint({"answers of": seed, "draw": draw})[:12], 16))
            for start in range(0, len(questions), ANSWERS_BATCH):
                tell(ANSWERING, len(samples), count)
                batch = questions[start : start + ANSWERS_BATCH]
                samples += generate_batch(model, tokenizer, batch, evaluation, draw)
    model.train(was_training)
    return samples


def generate_batch(
    model: Any, tokenizer: Any, batch: Sequence[Row], evaluation: Evaluation, draw: int
) -> list[Sample]:
    """The answers to one batch of questions, greedy where `draw` is 0."""
    texts = [
        tokenizer.apply_chat_template(
            question.chat, tools=question.tools_given, add_generation_prompt=True, tokenize=False
        )
        for question in batch
    ]
    inputs = tokenizer(texts, add_special_tokens=False, padding=True, return_tensors="pt")
    inputs = inputs.to(model.device)
    configured = model.generation_config.eos_token_id
    decoding = _decoding(evaluation, draw, model.generation_config, tokenizer.pad_token_id)
    with _own_decoding_set_aside(model):
        output = model.generate(**inputs, generation_config=decoding)
    answers = output[:, inputs["input_ids"].shape[1] :].tolist()
    listed = configured if isinstance(configured, list) else [configured]
    stop_tokens = {token for token in (*listed, tokenizer.eos_token_id) if token is not None}
    return [
        _sample(tokenizer, question, answer, stop_tokens, draw)
        for question, answer in zip(batch, answers, strict=True)
    ]


def _decoding(evaluation: Evaluation, draw: int, own: Any, padding: int) -> GenerationConfig:
    """How one draw is decoded: by the study alone, with the stop tokens of `own`, the model's."""
    settings: dict[str, Any] = {"do_sample": False}
    if draw:
        # Without top_k=0 transformers draws among 50 tokens.
        settings = {"do_sample": True, "top_k": 0}
        settings |= {"temperature": evaluation.temperature, "top_p": evaluation.top_p}
    return GenerationConfig(
        max_new_tokens=evaluation.max_new_tokens,
        eos_token_id=own.eos_token_id,
        pad_token_id=padding,
        # A model whose code has no cache may say so here; this changes no token.
        use_cache=own.use_cache,
        **settings,
    )


@contextmanager
def _own_decoding_set_aside(model: Any) -> Iterator[None]:
    """Without the decoding settings that came with the model.

    transformers takes from them whatever a call leaves open, even one with a config of its own.
    """
    inner = model.get_base_model() if isinstance(model, PeftModel) else model
    own = inner.generation_config
    inner.generation_config = GenerationConfig()
    try:
        yield
    finally:
        inner.generation_config = own


def _sample(
    tokenizer: Any, question: Row, answer: list[int], stop_tokens: set[int], draw: int
) -> Sample:
    length = next((i for i, token in enumerate(answer) if token in stop_tokens), len(answer))
    stopped = length < len(answer)
    return Sample(
        prompt=question.prompt,
        answer=tokenizer.decode(answer[:length], skip_special_tokens=True).strip(),
        expected=question.completion,
        tokens=length,
        stopped=stopped,
        reason="eos" if stopped else "length",
        draw=draw,
        token_ids=tuple(answer[:length]),
        expected_tokens=len(tokenizer(question.completion, add_special_tokens=False)["input_ids"]),
        earlier=question.earlier,
        asked=_asked(question),
    )


def _asked(question: Row) -> dict[str, Any] | None:
    """A question that has tools, turns that are more than a text, or no user's turn at its end."""
    tools = question.tools_given
    if (
        not tools
        and question.turns[-2].role == "user"
        and not any(t.more for t in question.earlier)
    ):
        return None
    return {"chat": question.chat, **({"tools": tools} if tools else {})}
