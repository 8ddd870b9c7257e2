"""A row as a model sees it: one text by its chat template, with the answers that are learned.

Model: `frame` renders a whole conversation, and for each learned answer the conversation before it
with the generation prompt. An answer is learned from there to the end of its turn, a special token
of the template; or, beside the last one, as the template itself marks it (`{% generation %}`).
Without marks of the data, `last` learns the last answer with everything that follows its prompt,
and `all` every answer of the assistant up to its end. A mark of the data (`Turn.learned`) goes
before both. Tokens follow by prefix: those of the text before an answer are not learned, nor are
those after its end.
Invariant: the text before the last answer, and before every answer that the template does not mark,
is the exact beginning of the whole, or FramingError is raised: a model that is asked sees the text
that was before the answer in its training.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, Protocol

from raylab.spec.data.rendering import ChatTemplate
from raylab.spec.data.rows import Row
from raylab.spec.data.template_sandbox import Spans

Learn = Literal["last", "all"]
"""Which answers of a conversation are learned where its data marks none."""
Tokenise = Callable[[str], Sequence[int]]
"""The token ids of a text, to which no special token is added."""

_SHOWN = 40
_PROBE = {"role": "user", "content": "Question"}, {"role": "assistant", "content": "Answer"}


class FramingError(ValueError):
    """A template does not frame a conversation so that its answers can be learned."""


class Render(Protocol):
    """A template: (messages, with a generation prompt?, tools) -> text."""

    def __call__(
        self, messages: Sequence[Mapping[str, Any]], generation_prompt: bool, tools: Any = None, /
    ) -> str:
        """The text of a conversation."""


@dataclass(frozen=True)
class Framed:
    """The text of a conversation and its learned spans: (first character, one after the last)."""

    text: str
    learned: tuple[tuple[int, int], ...]

    def marked(self, begin: str = "[[", end: str = "]]") -> str:
        """The text with `begin` and `end` around each learned part."""
        parts, done = [], 0
        for start, stop in self.learned:
            parts += [self.text[done:start], begin, self.text[start:stop], end]
            done = stop
        return "".join([*parts, self.text[done:]])

    def tokens(self, tokenise: Tokenise) -> Tokens:
        """The tokens, with a mask of the learned ones. Raises FramingError."""
        ids = list(tokenise(self.text))
        mask, joined = [0] * len(ids), False
        for start, stop in self.learned:
            before = list(tokenise(self.text[:start]))
            first = common_prefix(before, ids)
            joined |= first < len(before)
            last = len(ids)
            if stop < len(self.text):
                until = list(tokenise(self.text[:stop]))
                last = common_prefix(until, ids)
                if last < len(until):
                    raise FramingError(
                        "the end of an answer is no token of its own: "
                        f"{self.text[max(0, stop - _SHOWN) : stop + _SHOWN]!r}"
                    )
            mask[first:last] = [1] * (last - first)
        return Tokens(ids, mask, joined)


@dataclass(frozen=True)
class Tokens:
    """Token ids and their mask: 1 is learned. joined: a prompt's last tokens join the answer's."""

    ids: list[int]
    mask: list[int]
    joined: bool


@dataclass(frozen=True)
class Framer:
    """Frames rows as one model's template does.

    specials: the text of its special tokens. markers: what the template marks as said by the
    assistant, (messages, tools) -> spans of the text.
    """

    render: Render
    specials: frozenset[str]
    markers: Callable[[Sequence[Mapping[str, Any]], Any], Spans] = lambda messages, tools: ()

    def text(self, messages: Sequence[Mapping[str, Any]], prompt: bool, tools: Any = None) -> str:
        """The text of a conversation. Raises FramingError with what the template says."""
        from jinja2 import TemplateError

        try:
            return self.render(messages, prompt, tools)
        except (TemplateError, TypeError, ValueError, LookupError, AttributeError) as error:
            kind = type(error).__name__
            said = str(error) if kind == "TemplateError" else f"{kind}: {error}"
            raise FramingError(f"the template cannot be rendered: {said}") from error

    @cached_property
    def end(self) -> str:
        """The text of the token that ends an answer. Raises FramingError where there is none."""
        question, answer = _PROBE
        whole = self.text([question, answer], False)
        if "Answer" not in whole:
            raise FramingError(f"the template leaves out an answer that is a text: {whole[-80:]!r}")
        # Not by its prompt: that may begin reasoning, which this answer has not.
        tail = whole.rpartition("Answer")[2]
        found = [(tail.find(token), -len(token), token) for token in self.specials if token in tail]
        if not found:
            raise FramingError(
                f"no special token ends an answer ({tail!r} follows it), so no model could learn "
                "to stop"
            )
        return min(found)[2]

    def frame(self, row: Row, learn: Learn = "last") -> Framed:
        """`row` as one text, with its learned spans. Raises FramingError."""
        messages, tools = [turn.message for turn in row.turns], row.tools_given
        whole = self.text(messages, False, tools)
        last, spans = len(messages) - 1, []
        places = learned_turns(row, learn)
        marked = self._marked(row, whole) if learn == "all" or places != [last] else {}
        for place in places:
            if place != last and place in marked:
                spans.append(marked[place])
                continue
            start = len(self._before(messages[:place], whole, tools))
            if place == last and learn == "last":
                spans.append((start, len(whole)))
            else:
                spans.append(marked.get(place) or self._span(messages, place, whole, start, tools))
        return Framed(whole, tuple(spans))

    def _marked(self, row: Row, whole: str) -> dict[int, tuple[int, int]]:
        """The spans that the template marks, by turn; none unless it marks every answer once."""
        answers = [place for place, turn in enumerate(row.turns) if turn.role == "assistant"]
        found = self.markers([turn.message for turn in row.turns], row.tools_given)
        is_whole = len(found) == len(answers) and all(
            turn.text.strip() in whole[start:stop]
            for turn, (start, stop) in zip(map(row.turns.__getitem__, answers), found, strict=True)
        )
        return dict(zip(answers, found, strict=True)) if is_whole else {}

    def _span(
        self, messages: Sequence[Any], place: int, whole: str, start: int, tools: Any
    ) -> tuple[int, int]:
        """From the end of a turn's prompt to the end of its answer."""
        until = self.text(messages[: place + 1], False, tools)
        stop = until.rfind(self.end, start) + len(self.end)
        if stop < start + len(self.end):
            raise FramingError(f"no {self.end!r} ends an answer: {_around(until, start)}")
        _check_begins(whole, until[:stop], "an answer, once other turns follow it")
        return start, stop

    def texts(
        self, prompt: Sequence[Mapping[str, Any]], whole: Sequence[Mapping[str, Any]]
    ) -> tuple[str, str]:
        """(the text of `prompt`, that of `whole`, which it begins). Raises FramingError."""
        text = self.text(whole, False)
        return self._before(prompt, text, None), text

    def _before(self, messages: Sequence[Mapping[str, Any]], whole: str, tools: Any) -> str:
        if not messages:
            raise FramingError("an answer that nothing precedes cannot be asked for")
        before = self.text(messages, True, tools)
        _check_begins(whole, before, "a prompt, once its answer follows")
        return before


def framer_of(template: ChatTemplate) -> Framer:
    """The framer of a template that was read from files."""
    return Framer(template.render, template.specials, template.markers)


def framer_of_tokenizer(tokenizer: Any) -> Framer:
    """The framer of a tokenizer of transformers."""

    def render(messages: Any, generation_prompt: bool, tools: Any = None) -> str:
        text: str = tokenizer.apply_chat_template(
            list(messages), tools=tools, tokenize=False, add_generation_prompt=generation_prompt
        )
        return text

    added = tokenizer.added_tokens_decoder.values()
    special = {token.content for token in added if token.special}
    specials = frozenset({*special, *tokenizer.all_special_tokens})
    own = tokenizer.chat_template
    texts = own if isinstance(own, dict) else {"default": own}
    template = ChatTemplate(texts, tokenizer.special_tokens_map, specials)

    def markers(messages: Any, tools: Any) -> Spans:
        from jinja2 import TemplateError

        try:
            spans = template.markers(messages, tools)
            # A tokenizer with code of its own may render otherwise.
            same = spans and template.render(messages, False, tools) == render(
                messages, False, tools
            )
        except TemplateError:
            return ()
        return spans if same else ()

    return Framer(render, specials, markers)


def tokenise_with(tokenizer: Any) -> Tokenise:
    """How a tokenizer of transformers makes tokens of a framed text."""

    def tokenise(text: str) -> Sequence[int]:
        ids: list[int] = tokenizer(text, add_special_tokens=False)["input_ids"]
        return ids

    return tokenise


def learned_turns(row: Row, learn: Learn = "last") -> list[int]:
    """The places in `row.turns` of the answers that are learned."""
    return learned_places([(turn.role, turn.learned) for turn in row.turns], learn)


def learned_places(turns: Sequence[tuple[str, bool | None]], learn: Learn) -> list[int]:
    """The same for turns as (role, mark of the data)."""
    last = len(turns) - 1
    return [
        place
        for place, (role, mark) in enumerate(turns)
        if role == "assistant" and (learn == "all" or place == last if mark is None else mark)
    ]


def unmarked(row: Row) -> Row:
    """The same row without the marks of its data."""
    if all(turn.learned is None for turn in row.turns):
        return row
    return row._replace(turns=tuple(turn._replace(learned=None) for turn in row.turns))


def is_plain(row: Row, learn: Learn = "last") -> bool:
    """Whether nothing but the last answer is learned, and every turn is a text alone."""
    return (
        learn == "last"
        and not row.tools
        and not any(turn.more for turn in (*row.turns, *([row.rejected] if row.rejected else ())))
        and learned_turns(row, learn) == [len(row.turns) - 1]
    )


def common_prefix(one: Sequence[int], other: Sequence[int]) -> int:
    """The number of tokens that both begin with."""
    if list(other[: len(one)]) == list(one):
        return len(one)
    pairs = zip(one, other, strict=False)
    return next((i for i, (a, b) in enumerate(pairs) if a != b), min(len(one), len(other)))


def _check_begins(whole: str, beginning: str, what: str) -> None:
    if whole.startswith(beginning):
        return
    pairs = enumerate(zip(beginning, whole, strict=False))
    place = next((i for i, (a, b) in pairs if a != b), min(len(beginning), len(whole)))
    raise FramingError(
        f"the template frames {what}, in another way: {_around(beginning, place)} before, "
        f"{_around(whole, place)} after"
    )


def _around(text: str, place: int) -> str:
    return repr(text[max(0, place - _SHOWN) : place + _SHOWN])
