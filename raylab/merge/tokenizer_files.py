"""The tokenizer files of a merge's output: those of one model, with tokens added.

Model: a frame is the folder whose tokenizer the output has. Its files are copied. Tokens that it
lacks get the next ids, and are written into tokenizer.json as added tokens, with the settings that
they have in the model that brings them.
Invariant: no code of a model runs, and nothing else in the files changes. The library `tokenizers`
reads the extended file before anything is written, and gives every new token its id.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from raylab.errors import ModelError
from raylab.spec.weight_files import read_json
from raylab.weights.checkpoint_writer import TOKENIZER_FILES, copy_config_files

FILE, CONFIG, ADDED = "tokenizer.json", "tokenizer_config.json", "added_tokens.json"
_CONFIGS = ("config.json", "generation_config.json")
_ROWS = ("vocab_size", "vocab_size_per_layer_input")
_OTHER_PARTS = ("vision_config", "audio_config")
_PLAIN = {
    "single_word": False, "lstrip": False, "rstrip": False, "normalized": True, "special": False,
}  # fmt: skip
"""What the library `tokenizers` gives a token that is added without settings."""

Entry = Mapping[str, Any]
"""A token as tokenizer.json lists it: id, content, and how text is matched."""


def added_entries(folder: Path) -> dict[str, Entry]:
    """The added tokens of the tokenizer in `folder`, by their text. Raises ModelError."""
    found: dict[str, Entry] = {}
    if (folder / ADDED).is_file():
        found |= dict.fromkeys(read_json(folder / ADDED, "added tokens"), _PLAIN)
    for file, field in ((CONFIG, "added_tokens_decoder"), (FILE, "added_tokens")):
        content = read_json(folder / file, "a tokenizer") if (folder / file).is_file() else {}
        listed = content.get(field)
        entries = [*listed.values()] if isinstance(listed, dict) else listed
        if isinstance(entries, list):
            found |= {str(e.get("content")): e for e in entries if isinstance(e, dict)}
    return found


def entry_of(token: str, id: int, like: Entry | None) -> Entry:
    """The entry of a token with a new id, with the settings of `like`."""
    settings = {name: (like or _PLAIN).get(name, value) for name, value in _PLAIN.items()}
    return {"id": id, "content": token, **settings}


def extended(frame: Path, added: Sequence[Entry]) -> str | None:
    """The text of the frame's tokenizer.json with the entries `added`; None without any.

    Raises ModelError where it has no such file, or cannot be extended.
    """
    if not added:
        return None
    if not (frame / FILE).is_file():
        raise ModelError(
            f"the tokenizer of {frame} cannot be extended",
            found=f"no {FILE}; {len(added)} tokens are to be added",
            expected=f"a tokenizer with a {FILE}",
            todo="save it by AutoTokenizer.from_pretrained(...).save_pretrained(...), or give the "
            "output the tokenizer of one model",
        )
    from tokenizers import Tokenizer

    content = read_json(frame / FILE, "a tokenizer")
    own = content.get("added_tokens")
    content["added_tokens"] = [*(own if isinstance(own, list) else []), *added]
    text = json.dumps(content, ensure_ascii=False, indent=2)
    try:
        made = Tokenizer.from_str(text)
        wrong = [e["content"] for e in added if made.token_to_id(e["content"]) != e["id"]]
        why = f"{len(wrong)} tokens get other ids: {', '.join(map(repr, wrong[:3]))}"
    except Exception as error:
        wrong, why = [frame.name], str(error)
    if wrong:
        raise ModelError(
            f"the tokenizer of {frame} cannot be extended",
            found=why,
            expected="a vocabulary with ids from 0 on, without gaps",
            todo="give the output the tokenizer of one model",
        )
    return text


def write_tokenizer(
    frame: Path, text: str | None, added: Sequence[Entry], template: Path, rows: int, part: Path
) -> None:
    """Write the tokenizer's files into `part`, and into its configs what follows from them.

    text, added: of `extended`. template: whose configs lie in `part` already. rows: of the output's
    matrices of tokens. Ids of special tokens in the configs are those of the frame's configs.
    """
    copy_config_files(frame, part, TOKENIZER_FILES)
    if text is not None:
        (part / FILE).write_text(text, encoding="utf-8")
        _extend_others(part, added)
    for name in _CONFIGS:
        source = frame / name
        if frame != template and source.is_file() and (part / name).is_file():
            _set_special_ids(part / name, read_json(source, "a model's config"))
    _set_rows(part / _CONFIGS[0], rows)


def _extend_others(part: Path, added: Sequence[Entry]) -> None:
    """Name the added tokens in the older files as well, where they list any."""
    config = _content(part / CONFIG)
    if isinstance(config.get("added_tokens_decoder"), dict):
        named = {str(e["id"]): {n: v for n, v in e.items() if n != "id"} for e in added}
        config["added_tokens_decoder"] |= named
        rewrite(part / CONFIG, config)
    if (part / ADDED).is_file():
        own = {entry["content"]: entry["id"] for entry in added}
        rewrite(part / ADDED, _content(part / ADDED) | own)


def _set_special_ids(file: Path, source: Mapping[str, Any]) -> None:
    """Take the ids of special tokens from the config of the model whose tokenizer it is."""
    content = _content(file)
    own = {n: v for n, v in source.items() if n.endswith("_token_id") and v is not None}
    for part in (content, *(part for part in content.values() if isinstance(part, dict))):
        part.update({name: value for name, value in own.items() if name in part})
    rewrite(file, {**content, **own})


def _set_rows(file: Path, rows: int) -> None:
    """Set the number of rows in config.json, and in its parts that describe a language model."""
    content = _content(file)
    nested = [part for name, part in content.items() if name not in _OTHER_PARTS]
    parts = [p for p in (content, *nested) if isinstance(p, dict) and _ROWS[0] in p] or [content]
    for part in parts:
        part.update({name: rows for name in _ROWS if name == _ROWS[0] or name in part})
    rewrite(file, content)


def _content(file: Path) -> dict[str, Any]:
    return read_json(file, "a file of the output") if file.is_file() else {}


def rewrite(file: Path, content: Mapping[str, Any]) -> None:
    """Write the JSON `content` to `file`, as transformers does."""
    text = json.dumps(content, ensure_ascii=False, indent=2)
    file.write_text(text + "\n", encoding="utf-8")
