"""A tokenizer that can frame a chat, how its answers end, and what does not fit.

Model: a chat template renders a prompt and its answer. What is learned are the tokens after those
of the prompt with its generation prompt, which is what the model is given when it is asked; so
the one must begin with the other. The first special token after an answer is what ends it.
Invariant: a tokenizer that leaves here has a template whose answers end in one special token, and
a pad token, at the left. The end is learned wherever it is not cut: trl masks by position, never by
the pad token's id, so that an end-of-sequence token which pads as well is learned.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from datasets import Dataset
from jinja2 import TemplateError

from raylab.errors import ModelError
from raylab.spec.models import no_template

_ANSWERS = ("completion", "chosen", "rejected")
_PROBE = [{"role": "user", "content": "Question"}], [{"role": "assistant", "content": "Answer"}]
_NAME = "`chat_template:` under the base model"

Chat = list[dict[str, str]]


@dataclass(frozen=True)
class Counted:
    """Examples that are trained on, those of them that are cut at max_length, and the rest."""

    examples: int
    cut: int
    """Their end is not learned; of a pair, that of either answer."""
    dropped: int
    """Left out: nothing of the answer is left."""
    joined: int = 0
    """The last tokens of the prompt are others once the answer follows."""

    @property
    def metrics(self) -> dict[str, int]:
        """The columns of the trials table."""
        return {"examples": self.examples, "cut": self.cut, "dropped": self.dropped}

    def said(self, max_length: int) -> str | None:
        """One message of what does not fit; None where everything does."""
        parts = [
            (self.cut, f"cut at max_length {max_length}, so that their end is not learned"),
            (self.dropped, "left out, since nothing of the answer is left"),
            (self.joined, "whose prompt ends in tokens that join those of the answer"),
        ]
        found = "; ".join(f"{count} {what}" for count, what in parts if count)
        return f"of {self.examples + self.dropped} examples: {found}" if found else None


def fit_tokenizer(tokenizer: Any, template: str | None, directory: Path) -> Any:
    """The same tokenizer with `template`, where one is given, and with a pad token, to the left.

    A prompt that is padded at its end is answered from there. Where trl pads, it goes by itself.
    Raises ModelError where it has no template, or one by which nothing could be learned.
    """
    tokenizer.padding_side = "left"
    if template is not None:
        tokenizer.chat_template = template
    if tokenizer.chat_template is None:
        raise no_template(directory)
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


def end_of_answer(tokenizer: Any) -> int:
    """The token that ends an answer. Raises ModelError where the template shows none."""
    prompt, answer = _PROBE
    before, whole = (_render(tokenizer, chat, chat is prompt) for chat in (prompt, prompt + answer))
    asked, given = (
        tokens_of(tokenizer, chat, chat is prompt) for chat in (prompt, prompt + answer)
    )
    if not whole.startswith(before) or given[: len(asked)] != asked:
        raise ModelError(
            "the chat template frames a prompt in another way once its answer follows",
            found=f"{before[-60:]!r} alone, {whole[-80:]!r} with the answer {answer[0]['content']}",
            expected="the prompt with its generation prompt, then the answer, token by token",
            todo=f"set {_NAME} to one that does",
        )
    tail = whole[len(before) :].partition(answer[0]["content"])[2]
    special = {*tokenizer.all_special_ids, *_added(tokenizer)}
    ends = [token for token in _plain(tokenizer, tail) if token in special]
    if not ends:
        raise ModelError(
            "the chat template ends no answer with a special token: no model could learn to stop",
            found=f"{tail!r} after an answer, which this tokenizer reads as text",
            expected=f"a special token of its vocabulary, as {tokenizer.eos_token!r} is",
            todo=f"set {_NAME} to one that writes its tokens; `plain` writes the eos_token",
        )
    return int(ends[0])


def teach_stopping(model: Any, tokenizer: Any) -> None:
    """Let generation stop at what ends an answer, even where the model's config forgot it."""
    config = model.generation_config
    known = config.eos_token_id
    listed = known if isinstance(known, list) else [] if known is None else [known]
    end = end_of_answer(tokenizer)
    if end not in listed:
        config.eos_token_id = [*listed, end]


def count(dataset: Dataset, tokenizer: Any, max_length: int) -> Counted:
    """What of `dataset`, prompts with answers, fits into `max_length` tokens."""
    cut = dropped = joined = 0
    for row in dataset:
        prompt = tokens_of(tokenizer, row["prompt"], True)
        answers = [
            tokens_of(tokenizer, row["prompt"] + row[name], False)
            for name in _ANSWERS
            if name in row
        ]
        shared = min(common(prompt, answer) for answer in answers)
        joined += shared < len(prompt)
        if shared >= max_length:
            dropped += 1
        else:
            cut += max(map(len, answers)) > max_length
    return Counted(len(dataset) - dropped, cut, dropped, joined)


def common(one: Sequence[int], other: Sequence[int]) -> int:
    """How many tokens both begin with."""
    pairs = zip(one, other, strict=False)
    return next((i for i, (a, b) in enumerate(pairs) if a != b), min(len(one), len(other)))


def _added(tokenizer: Any) -> list[int]:
    known = tokenizer.added_tokens_decoder
    return [token for token, kind in known.items() if kind.special]


def _render(tokenizer: Any, chat: Chat, asking: bool) -> str:
    try:
        text: str = tokenizer.apply_chat_template(
            chat, tokenize=False, add_generation_prompt=asking
        )
    except TemplateError as error:
        raise ModelError(
            "the chat template cannot be rendered",
            found=f"{type(error).__name__}: {error}",
            expected="a template for one question of a user and one answer of an assistant",
            todo=f"mend it, or set {_NAME}",
        ) from error
    return text


def tokens_of(tokenizer: Any, chat: Chat, asking: bool) -> list[int]:
    """The tokens of a conversation in its frame; `asking`: with the prompt for an answer."""
    found = tokenizer.apply_chat_template(chat, add_generation_prompt=asking, return_dict=True)
    ids: list[int] = found["input_ids"]
    return ids


def _plain(tokenizer: Any, text: str) -> list[int]:
    ids: list[int] = tokenizer(text, add_special_tokens=False)["input_ids"]
    return ids
