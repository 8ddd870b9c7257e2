"""The tokenizer of a chat: its template, the end of an answer, and the examples that do not fit.

Model: a chat template renders a prompt and its answer. The model learns the tokens after those of
the prompt with its generation prompt, which is the text that generation starts from; so the whole
must begin with the prompt. The first special token after an answer ends it.
Invariant: a tokenizer that leaves here has a template whose answers end in one special token, and
a pad token, and pads at the left. The end of an answer is learned unless it is cut: trl masks by
position, never by the pad token's id, so an end-of-sequence token that pads as well is learned.
"""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jinja2 import TemplateError

from raylab.errors import DataError, ModelError
from raylab.plan.trials import Trial
from raylab.spec.data.framing import (
    FramingError,
    common_prefix,
    framer_of_tokenizer,
    tokenise_with,
)
from raylab.spec.data.prepared import DEFAULT_DATE, frozen, prepared
from raylab.spec.models import missing_template_error

if TYPE_CHECKING:
    from datasets import Dataset

_ANSWERS = ("completion", "chosen", "rejected")
_PROBE = [{"role": "user", "content": "Question"}], [{"role": "assistant", "content": "Answer"}]
_NAME = "`chat_template:` under the base model"

Chat = list[dict[str, Any]]


@dataclass(frozen=True)
class ExampleCounts:
    """How many examples are trained on, cut at max_length, and left out."""

    examples: int
    """Those that are trained on, cut or whole."""
    cut: int
    """Those whose end is not learned; of a pair, the end of either answer."""
    dropped: int
    """Those left out, because the prompt fills max_length."""
    joined: int = 0
    """Those whose prompt ends in other tokens once the answer follows."""

    @property
    def metrics(self) -> dict[str, int]:
        """The columns of the trials table."""
        return {"examples": self.examples, "cut": self.cut, "dropped": self.dropped}

    def message(self, max_length: int) -> str | None:
        """One message about the examples that do not fit; None where all fit."""
        parts = [
            (self.cut, f"cut at max_length {max_length}, so that their end is not learned"),
            (self.dropped, "left out, since nothing of the answer is left"),
            (self.joined, "whose prompt ends in tokens that join those of the answer"),
        ]
        found = "; ".join(f"{count} {text}" for count, text in parts if count)
        return f"of {self.examples + self.dropped} examples: {found}" if found else None


def fit_tokenizer(
    tokenizer: Any, template: str | None, directory: Path, day: datetime.date = DEFAULT_DATE
) -> Any:
    """The same tokenizer with `template`, if one is given, and with a pad token, at the left.

    Its template is the one that raylab renders (`prepared`), which prints `day`. Generation would
    go on from the padding of a prompt that is padded at its end. trl's collators pad on their own.
    Raises ModelError where there is no template, or one that cannot be learned.
    """
    tokenizer.padding_side = "left"
    if template is not None:
        tokenizer.chat_template = template
    if tokenizer.chat_template is None:
        raise missing_template_error(directory)
    own = tokenizer.chat_template
    texts = own if isinstance(own, dict) else {"default": own}
    tokenizer.template_is_dated = any(frozen(text, day) != text for text in texts.values())
    made = {name: prepared(text, day) for name, text in texts.items()}
    tokenizer.chat_template = made if isinstance(own, dict) else made["default"]
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    if tokenizer.pad_token is None:
        raise ModelError(
            "the tokenizer has neither a pad nor an end-of-sequence token",
            found=str(directory),
            expected="`eos_token` in tokenizer_config.json",
        )
    end_of_answer(tokenizer)
    return tokenizer


def check_date(trial: Trial, tokenizer: Any) -> None:
    """Refuse a template whose date is no part of the trial's id. Raises ModelError.

    It happens where the tokenizer of a model on a hub was fetched after the study was planned.
    """
    if tokenizer.template_is_dated and "template_date" not in trial.identity:
        raise ModelError(
            "the chat template prints a date, which is not part of the trial's id",
            found=trial.name,
            expected="a tokenizer that is on the machine of `raylab run` when it starts",
            todo="run it again: the tokenizer is there now",
        )


def end_of_answer(tokenizer: Any) -> int:
    """The token that ends an answer. Raises ModelError where the template shows none."""
    prompt, answer = _PROBE
    before, whole = _render(tokenizer, prompt, True), _render(tokenizer, prompt + answer, False)
    prompt_ids = tokens_of(tokenizer, prompt, True)
    whole_ids = tokens_of(tokenizer, prompt + answer, False)
    if not whole.startswith(before) or whole_ids[: len(prompt_ids)] != prompt_ids:
        raise ModelError(
            "the chat template frames a prompt in another way once its answer follows",
            found=f"{before[-60:]!r} alone, {whole[-80:]!r} with the answer {answer[0]['content']}",
            expected="the prompt with its generation prompt, then the answer, token by token",
            todo=f"set {_NAME} to one that does",
        )
    tail = whole[len(before) :].partition(answer[0]["content"])[2]
    added = tokenizer.added_tokens_decoder
    special = {*tokenizer.all_special_ids, *(t for t, kind in added.items() if kind.special)}
    tail_ids = tokenizer(tail, add_special_tokens=False)["input_ids"]
    ends = [token for token in tail_ids if token in special]
    if not ends:
        raise ModelError(
            "the chat template ends no answer with a special token: no model could learn to stop",
            found=f"{tail!r} after an answer, which this tokenizer reads as text",
            expected=f"a special token of its vocabulary, as {tokenizer.eos_token!r} is",
            todo=f"set {_NAME} to one that writes its tokens; `plain` writes the eos_token",
        )
    return int(ends[0])


def teach_stopping(model: Any, tokenizer: Any) -> None:
    """Make generation stop at the end of an answer, even where the model's config lacks it."""
    config = model.generation_config
    known = config.eos_token_id
    listed = known if isinstance(known, list) else [] if known is None else [known]
    end = end_of_answer(tokenizer)
    if end not in listed:
        config.eos_token_id = [*listed, end]


def count_examples(dataset: Dataset, tokenizer: Any, max_length: int) -> ExampleCounts:
    """How many of `dataset`, prompts with answers, fit into `max_length` tokens.

    Raises DataError for a row that the template cannot frame.
    """
    cut = dropped = joined = 0
    framer, tokenise = framer_of_tokenizer(tokenizer), tokenise_with(tokenizer)
    for number, row in enumerate(dataset, 1):
        chats = [row["prompt"] + row[name] for name in _ANSWERS if name in row]
        try:
            prompts, wholes = zip(
                *(framer.texts(row["prompt"], chat) for chat in chats), strict=True
            )
        except FramingError as error:
            raise unframed_row_error(number, row["prompt"], error) from error
        prompt, answers = tokenise(prompts[0]), [tokenise(whole) for whole in wholes]
        shared = min(common_prefix(prompt, answer) for answer in answers)
        joined += shared < len(prompt)
        if shared >= max_length:
            dropped += 1
        else:
            cut += max(map(len, answers)) > max_length
    return ExampleCounts(len(dataset) - dropped, cut, dropped, joined)


def unframed_row_error(number: int, chat: Sequence[Any], error: FramingError) -> DataError:
    """The error for a row, counted from 1 among the examples, that a template cannot frame."""
    asked = str(chat[-1]["content"]) if chat else ""
    return DataError(
        "the chat template does not frame a conversation so that its answers can be learned",
        found=f"example {number}, {asked[:60]!r}: {error}",
        expected="every learned answer after exactly the text that the model is asked with",
        todo=f"change or remove this row, or set {_NAME}",
    )


def _render(tokenizer: Any, chat: Chat, generation_prompt: bool) -> str:
    try:
        text: str = tokenizer.apply_chat_template(
            chat, tokenize=False, add_generation_prompt=generation_prompt
        )
    except TemplateError as error:
        raise ModelError(
            "the chat template cannot be rendered",
            found=f"{type(error).__name__}: {error}",
            expected="a template for one question of a user and one answer of an assistant",
            todo=f"correct it, or set {_NAME}",
        ) from error
    return text


def tokens_of(tokenizer: Any, chat: Chat, generation_prompt: bool, tools: Any = None) -> list[int]:
    """The tokens of a conversation as the template frames it."""
    found = tokenizer.apply_chat_template(
        chat, tools=tools, add_generation_prompt=generation_prompt, return_dict=True
    )
    ids: list[int] = found["input_ids"]
    return ids
