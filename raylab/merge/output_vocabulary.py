"""The vocabulary of a merge's output, by the source that is asked for.

Model: members are the base model (or the first model) and the models, each with a tokenizer's
vocabulary and a number of rows; a token without a row is one that the member lacks. Of a union the
frame is the first member whose tokenizer splits text into words that include those of all others;
without one it is the first member, and words of others become added tokens, which text
has to hold letter for letter. Tokens that the frame lacks come in the order of the members, and
of their ids.
Invariant: ids of the frame stay. The vocabulary depends on the members' order and files alone
(mergekit 0.1.5 orders them by the hash of Python's text, which differs from process to process).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from raylab.errors import ModelError
from raylab.merge.tokenizer_files import Entry, added_entries, entry_of, extended
from raylab.spec.output_tokenizer import BASE, UNION, OutputTokenizer
from raylab.spec.vocabularies import Vocabulary, vocabulary_of

_GAPS = 64
"""A tokenizer has at least one token for so many ids."""


@dataclass(frozen=True)
class Member:
    """A model with a row for every token.

    directory: of its tokenizer. is_assumed: it has none, and that of the base model stands for it.
    counts: whether it has a say in what a row is filled with.
    """

    name: str
    directory: Path
    rows: int
    counts: bool = True
    is_assumed: bool = False

    @cached_property
    def known(self) -> Vocabulary:
        """The tokens of its tokenizer. Raises ModelError."""
        return known_vocabulary(self.directory)

    @cached_property
    def vocabulary(self) -> Vocabulary:
        """Those that have a row. Raises ModelError."""
        return {token: id for token, id in self.known.items() if 0 <= id < self.rows}

    @cached_property
    def added(self) -> Mapping[str, Entry]:
        """Its added tokens."""
        return added_entries(self.directory)

    @cached_property
    def words(self) -> frozenset[str]:
        """Its tokens that are not added: those that its algorithm splits text into."""
        return frozenset(self.vocabulary.keys() - self.added.keys())


@dataclass(frozen=True)
class OutputVocabulary:
    """ids: of all tokens. frame: the folder of the tokenizer's files, to which `added` come; text:
    of the extended tokenizer.json. literal: added tokens that are words of other tokenizers."""

    ids: Vocabulary
    frame: Path
    added: tuple[Entry, ...]
    text: str | None
    literal: int


def known_vocabulary(directory: Path) -> Vocabulary:
    """The vocabulary of the tokenizer in `directory`. Raises ModelError without one."""
    if found := vocabulary_of(directory):
        return found
    raise ModelError(
        "a model's tokenizer is not there, or cannot be read",
        found=str(directory),
        expected="tokenizer.json, vocab.json, vocab.txt or a SentencePiece model",
        todo="save the tokenizer beside the model, by save_pretrained",
    )


def output_vocabulary(
    asked: OutputTokenizer, members: Sequence[Member], source: Path | None
) -> OutputVocabulary:
    """The vocabulary that is asked for. members: the base model or the first model, then all
    models; source: the folder of the tokenizer that is named by a model. Raises ModelError."""
    frame = members[0].directory
    if asked.source not in (UNION, BASE):
        assert source is not None
        frame = source
    brought: list[tuple[str, Entry | None]] = []
    literal = 0
    if asked.source == UNION:
        frame = _frame(members).directory
        wanted = list(_of_others(members, known_vocabulary(frame)))
        brought += [(token, member.added.get(token)) for token, member in wanted]
        literal = sum(token not in member.added for token, member in wanted)
    ids = dict(known_vocabulary(frame))
    names = {token for token, _ in brought}
    brought += [(t, None) for t in asked.tokens if t not in ids and t not in names]
    first = _first_free(frame, ids)
    added = tuple(entry_of(token, first + i, like) for i, (token, like) in enumerate(brought))
    text = extended(frame, added)
    ids |= {entry["content"]: entry["id"] for entry in added}
    return OutputVocabulary(ids, frame, added, text, literal)


def _first_free(frame: Path, ids: Vocabulary) -> int:
    """The id after the largest. Raises ModelError where most ids have no token."""
    first = max(ids.values()) + 1
    if min(ids.values()) < 0 or first > _GAPS * (len(ids) + _GAPS):
        raise ModelError(
            f"the ids of the tokenizer in {frame} are no numbers of rows",
            found=f"{len(ids)} tokens with ids from {min(ids.values())} to {first - 1}",
            expected="ids from 0 on, with few gaps",
        )
    return first


def _frame(members: Sequence[Member]) -> Member:
    words = frozenset[str]().union(*(member.words for member in members))
    return next((member for member in members if member.words == words), members[0])


def _of_others(members: Iterable[Member], known: Vocabulary) -> Iterator[tuple[str, Member]]:
    """The tokens that `known` lacks, with the first member that has them."""
    seen = set(known)
    for member in members:
        for token in sorted(member.vocabulary, key=member.vocabulary.__getitem__):
            if token not in seen:
                seen.add(token)
                yield token, member
