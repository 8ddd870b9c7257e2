"""Tokens and their ids, of the tokenizers that lie beside models.

Model: row i of an embedding, and of an output head, belongs to the token with the id i. Models are
merged and compared row by row, which is right where their tokenizers agree. A vocabulary maps
tokens to ids. It is read from tokenizer.json, vocab.json, vocab.txt or a SentencePiece model,
whichever comes first, and added tokens from the files beside it.
Invariant: files are parsed, and no code of a tokenizer runs. A folder without one of these files
has no vocabulary (None), and nothing is said of it. Equal files are never parsed.
"""

from __future__ import annotations

import filecmp
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import NamedTuple

from raylab.errors import ModelError
from raylab.spec.weight_files import read_json, shapes_of

Vocabulary = Mapping[str, int]

_ADDED = ("tokenizer_config.json", "added_tokens.json")
_EMBEDDINGS = (
    "embed_tokens", "lm_head", "wte", "word_embeddings", "embed_in", "embed_out", "tokens_embed",
    "embed_tokens_per_layer",
)  # fmt: skip
_NAMED = 3
_TOKENIZERS = ("tokenizer*", "vocab*", "spiece.model", "*.tiktoken")


class Side(NamedTuple):
    """A model as the user calls it, and the folder of its tokenizer."""

    name: str
    directory: Path


def vocabulary_of(directory: Path) -> Vocabulary | None:
    """The id of every token of the tokenizer in `directory`. Raises ModelError."""
    for name, read in _READERS.items():
        file = directory / name
        if file.is_file():
            found = read(file)
            for token, id in _added(directory):
                found.setdefault(token, id)
            return {token: id for token, id in found.items() if isinstance(id, int)}
    return None


def has_tokenizer(directory: Path) -> bool:
    """Whether a file of a tokenizer lies there."""
    return any(next(directory.glob(pattern), None) for pattern in _TOKENIZERS)


def _read_tokenizer_json(file: Path) -> dict[str, int]:
    """The vocabulary of a file of the library tokenizers: a mapping, or for Unigram a list."""
    content = read_json(file, "a tokenizer.json with a vocabulary")
    model = content.get("model")
    vocab = model.get("vocab") if isinstance(model, dict) else None
    match vocab:
        case dict():
            found = {str(token): id for token, id in vocab.items()}
        case list():
            found = {str(e[0]): id for id, e in enumerate(vocab) if isinstance(e, list) and e}
        case _:
            raise ModelError(
                f"{file} cannot be read",
                found=f"a vocabulary of {type(vocab).__name__}",
                expected="a tokenizer.json with a vocabulary",
            )
    added = content.get("added_tokens")
    for token in added if isinstance(added, list) else ():
        if isinstance(token, dict):
            found[str(token.get("content"))] = token.get("id", -1)
    return found


def _read_vocab_json(file: Path) -> dict[str, int]:
    return dict(read_json(file, "a mapping from tokens to ids"))


def _read_lines(file: Path) -> dict[str, int]:
    lines = file.read_text(encoding="utf-8", errors="replace").splitlines()
    return {token: id for id, token in enumerate(lines)}


def _read_sentencepiece(file: Path) -> dict[str, int]:
    """The pieces of a SentencePiece model, a protocol buffer whose field 1 is a piece with its text
    in field 1 (https://github.com/google/sentencepiece, sentencepiece_model.proto)."""
    data = file.read_bytes()
    try:
        pieces = [piece for field, piece in _fields(data) if field == 1 and piece is not None]
        texts = [dict(_fields(piece)).get(1) or b"" for piece in pieces]
    except IndexError:  # No protocol buffer: tiktoken's lines have this name in some models.
        return {}
    return {text.decode("utf-8", "replace"): id for id, text in enumerate(texts)}


def _fields(data: bytes) -> Iterator[tuple[int, bytes | None]]:
    """(number, bytes) of every field of a protocol buffer; None for numbers and floats."""
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        match key & 7:
            case 0:
                _, at = _varint(data, at)
                yield key >> 3, None
            case 1 | 5 as kind:
                at += 8 if kind == 1 else 4
                yield key >> 3, None
            case 2:
                size, at = _varint(data, at)
                if at + size > len(data):
                    raise IndexError("a field beyond the end")
                yield key >> 3, data[at : at + size]
                at += size
            case _:
                raise IndexError("no field of a protocol buffer")


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """(the number at byte `at`, the byte after it)."""
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 127) << shift
        at, shift = at + 1, shift + 7
        if byte < 128:
            return value, at


_READERS: Mapping[str, Callable[[Path], dict[str, int]]] = {
    "tokenizer.json": _read_tokenizer_json,
    "vocab.json": _read_vocab_json,
    "vocab.txt": _read_lines,
    "tokenizer.model": _read_sentencepiece,
    "spiece.model": _read_sentencepiece,
}


def _added(directory: Path) -> Iterator[tuple[str, int]]:
    """Tokens that were added beside the vocabulary's file."""
    file = directory / _ADDED[0]
    config = read_json(file, "a tokenizer's config") if file.is_file() else {}
    decoder = config.get("added_tokens_decoder")
    for id, token in decoder.items() if isinstance(decoder, dict) else ():
        if isinstance(token, dict) and str(id).isdigit():
            yield str(token.get("content")), int(id)
    if (directory / _ADDED[1]).is_file():
        yield from read_json(directory / _ADDED[1], "added tokens with their ids").items()


def _are_equal(a: Path, b: Path) -> bool:
    """Whether both folders have the same bytes in every file that a vocabulary is read from."""
    names = [*_READERS, *_ADDED]
    there = [name for name in names if (a / name).is_file() or (b / name).is_file()]
    return filecmp.cmpfiles(a, b, there, shallow=False)[1:] == ([], [])


def clashes(a: Path, b: Path) -> list[str]:
    """The tokens to which the tokenizers in two folders give different ids, with both ids, in the
    order of the first; empty where one of them has no vocabulary. Raises ModelError."""
    if a == b or _are_equal(a, b):
        return []
    one, other = vocabulary_of(a), vocabulary_of(b)
    if not one or not other:
        return []
    return [
        f"{token!r} is {id} and {other[token]}"
        for token, id in sorted(one.items(), key=lambda item: item[1])
        if other.get(token, id) != id
    ]


def is_of_tokens(name: str) -> bool:
    """Whether the tensor `name` has a row for every token."""
    return not {*name.split(".")}.isdisjoint(_EMBEDDINGS)


def rows_of_tokens(directory: Path) -> dict[str, set[tuple[int, ...]]]:
    """The shapes of the whole matrices with a row for every token, by their module's own name
    (embed_tokens, lm_head): those of a checkpoint, or those that an adapter saves along.

    Only headers are read. Raises ModelError.
    """
    found: dict[str, set[tuple[int, ...]]] = {}
    for name, shape in shapes_of(directory).items():
        module = name.split(".")[-2:-1]
        if name.endswith(".weight") and not {*module}.isdisjoint(_EMBEDDINGS):
            found.setdefault(module[0], set()).add(shape)
    return found


def has_rows_of_tokens(directory: Path) -> bool:
    """Whether the model in `directory` has rows of tokens: a checkpoint, or an adapter that saves
    an embedding or a head. Raises ModelError."""
    if not (directory / "adapter_config.json").is_file():
        return True
    return any(map(is_of_tokens, shapes_of(directory)))


def check_vocabularies(base: Side, models: Sequence[Side]) -> None:
    """Refuse to merge models whose rows belong to other tokens. Raises ModelError.

    A token has one id in all of them. Two models that give a meaning of their own to one id, which
    is another token in the base model or none, have rows that do not belong together.
    """
    for one, other in combinations([base, *models], 2):
        if found := clashes(one.directory, other.directory):
            _refuse(one, other, found, "tokens have different ids")
    for one, other in combinations(models, 2):
        if found := _double_meanings(base, one, other):
            _refuse(one, other, found, "ids are different tokens")


def _double_meanings(base: Side, one: Side, other: Side) -> list[str]:
    """The ids that two models give to different tokens, neither of which the base model has."""
    if _are_equal(one.directory, other.directory):
        return []
    places = (base.directory, one.directory, other.directory)
    start, first, second = (vocabulary_of(place) or {} for place in places)
    known, theirs = {id: t for t, id in start.items()}, {id: t for t, id in second.items()}
    return [
        f"{id} is {token!r} and {theirs[id]!r}"
        for token, id in first.items()
        if theirs.get(id, token) != token and known.get(id) not in (token, theirs[id])
    ]


def _refuse(one: Side, other: Side, found: Sequence[str], what: str) -> None:
    raise ModelError(
        f"the tokenizers of {one.name} and {other.name} do not agree: {len(found)} {what}",
        found=", ".join(found[:_NAMED]) + (" ..." if len(found) > _NAMED else ""),
        expected="one tokenizer: rows of the embedding and the head are merged by id",
        todo="say which tokenizer the output has, and rows follow their tokens: raylab merge "
        "--tokenizer, in a study `tokenizer:` of the merge",
    )


def describe_clashes(sides: Sequence[Side]) -> list[str]:
    """A warning for each two models whose rows are compared by id and belong to other tokens."""
    told = []
    for one, other in combinations(sides, 2):
        if found := clashes(one.directory, other.directory):
            told.append(
                f"{len(found)} tokens have different ids in {one.name} and {other.name} "
                f"({', '.join(found[:_NAMED])}): rows of the embedding and the head are compared "
                "by id"
            )
    return told


def places_of(name: str, adapters: Sequence[Path], checkpoint: Path | None) -> list[Side]:
    """The folder whose tokenizer belongs to a model's rows of tokens; none for one without."""
    folders = [checkpoint] if checkpoint else [*adapters]
    return [Side(name, folder) for folder in folders if has_rows_of_tokens(folder)]
