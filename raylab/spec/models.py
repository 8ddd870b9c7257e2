"""Base models: the place of their files, and their identity.

Model: a base model at a local path is identified by the content of its files, one on a hub by
the commit of its revision. A commit that is not known offline gives a provisional identity,
which `raylab run` resolves before it trains.
Invariant: weights are safetensors; a directory with pickles alone is refused, with the way to
convert it. Nothing here loads a weight.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from raylab.errors import ModelError
from raylab.spec.architectures import knows
from raylab.spec.data.templates import NAMED
from raylab.spec.quantized import METHODS, method_of, quantization_of
from raylab.spec.study import BaseModelRef, Located

_COMMIT = re.compile(r"^[0-9a-f]{40}$")
_TOKENIZER_FILES = ["tokenizer*.json", "special_tokens_map.json", "*.jinja"]
_CONTENT = ("*.json", "*.safetensors", "*.jinja", "*.model", "*.txt", "*.py")


@dataclass(frozen=True)
class ResolvedModel:
    """The directory of a model (None: not on this machine), and its identity."""

    name: str
    identity: str
    directory: Path | None
    source: str
    revision: str | None = None
    provisional: bool = False


def resolve(name: str, place: Located, *, online: bool = False) -> ResolvedModel:
    """Find the model that `place` names; with `online`, ask the hub for an unknown commit.

    Raises ModelError where it is not there, or not in safetensors.
    """
    if place.path is not None:
        directory = Path(place.path)
        _check_directory(name, directory)
        return ResolvedModel(name, "content:" + content_of(directory), directory, name)
    return _resolve_hub(name, place, online=online)


def _check_directory(name: str, directory: Path) -> None:
    expected = "a directory with config.json (or adapter_config.json) and *.safetensors"
    if not directory.is_dir():
        raise ModelError(f"the model {name} is not there", found=str(directory), expected=expected)
    pickles = [file.name for pattern in ("*.bin", "*.pt") for file in directory.glob(pattern)]
    if not any(directory.glob("*.safetensors")):
        raise ModelError(
            f"the model {name} has no safetensors",
            found=f"{directory}: {', '.join(pickles) or 'no weights'}",
            expected=expected,
            todo="load it once in a place you trust and save_pretrained it: that writes safetensors"
            if pickles
            else "",
        )
    configs = ("config.json", "adapter_config.json")
    if not any((directory / config).is_file() for config in configs):
        raise ModelError(f"the model {name} has no config", found=str(directory), expected=expected)


def check_base(name: str, directory: Path, place: BaseModelRef) -> None:
    """Refuse a base model at `directory` that cannot be trained as `place` describes it.

    Raises ModelError where it is no checkpoint, is quantised, runs code that the study does not
    trust, or has a tokenizer without a chat template and is given none.
    """
    if not (directory / "config.json").is_file():
        raise ModelError(
            f"the base model {name} is not a checkpoint",
            found=str(directory),
            expected="a directory with config.json and *.safetensors",
        )
    check_remote_code(directory, place.trust_remote_code)
    check_full_precision(directory, name)
    tokenizer = json_of(directory / "tokenizer_config.json")
    if place.chat_template or tokenizer is None or "chat_template" in tokenizer:
        return
    if not any((directory / f"chat_template.{end}").is_file() for end in ("jinja", "json")):
        raise missing_template_error(directory, name)


def missing_template_error(directory: Path, name: str | None = None) -> ModelError:
    """The error for a model without a chat template."""
    return ModelError(
        f"the base model {name} has no chat template" if name else "a model has no chat template",
        found=str(directory),
        expected="a tokenizer that has one, or a study that names one",
        todo=f"set `chat_template:` under {f'base_models.{name}' if name else 'that base model'} "
        f"to one of {', '.join(NAMED)}, to a .jinja file, or to a template",
    )


def check_remote_code(directory: Path, trusted: bool) -> None:
    """Refuse a checkpoint that transformers can load only by running the checkpoint's own code.

    Raises ModelError; code that lies in another repository is refused even where it is trusted.
    """
    config = json_of(directory / "config.json") or {}
    named = {key: str(value) for key, value in config.get("auto_map", {}).items()}
    code = named.get("AutoModelForCausalLM")
    if code is None or knows(config.get("model_type")):
        return
    if not trusted:
        raise ModelError(
            "the model has code of its own, which the study does not allow to run",
            found=f"{directory}: {code}",
            expected="a model that transformers knows, or `trust_remote_code: true`",
            todo="read the code; set `trust_remote_code: true` under that base model to run it",
        )
    elsewhere = [value for value in named.values() if "--" in value]
    if elsewhere:
        raise ModelError(
            "the model's code lies in another repository, where no revision holds it still",
            found=f"{directory}: {elsewhere[0]}",
            expected="code beside the weights",
            todo="download both, and name the modules in config.json's auto_map without repository",
        )


def check_full_precision(directory: Path, name: str | None = None) -> None:
    """Refuse a base model that is quantised already. Raises ModelError.

    A study quantises its base model itself, and measures differences to its weights.
    """
    settings = quantization_of(json_of(directory / "config.json") or {})
    if settings is None:
        return
    method = METHODS.get(method_of(settings))
    todo = "name the model that it was made from"
    if method:
        install = [f"`pip install {' '.join(method.missing)}` and "] if method.missing else []
        todo += (
            f"; or {''.join(install)}`raylab merge linear --model {directory} --dequantize --out "
            "NEW_DIR`, and name NEW_DIR"
        )
    raise ModelError(
        f"the base model {name} is quantised already"
        if name
        else "the base model is quantised already",
        found=f"{directory}: quantised by {method_of(settings)}, as config.json says",
        expected="full-precision weights; a study quantises them itself (`quantization:`)",
        todo=todo,
    )


def json_of(file: Path) -> dict[str, Any] | None:
    """The content of a model's file; None where it is not there. Raises ModelError."""
    if not file.is_file():
        return None
    try:
        values: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        if not isinstance(values, dict):
            raise ValueError(f"{type(values).__name__} in place of an object")
    except ValueError as error:
        raise ModelError(
            "a model's file is no JSON", found=f"{file}: {error}", expected="a JSON object"
        ) from None
    return values


def content_of(directory: Path) -> str:
    """A fingerprint of the content of a model's files; reads every byte once in a process."""
    return _content(_state(directory))


def _state(directory: Path) -> tuple[tuple[str, str, int, int], ...]:
    files = sorted({file for pattern in _CONTENT for file in directory.glob(pattern)})
    stats = [(file, file.stat()) for file in files]
    return tuple((str(f), f.name, stat.st_size, stat.st_mtime_ns) for f, stat in stats)


@lru_cache(maxsize=64)
def _content(state: tuple[tuple[str, str, int, int], ...]) -> str:
    """A fingerprint of the files' names and bytes; `state` makes the cache notice a change."""
    whole = hashlib.sha256()
    for path, name, _size, _time in state:
        with Path(path).open("rb") as file:
            whole.update(f"{name}:{hashlib.file_digest(file, 'sha256').hexdigest()}\n".encode())
    return whole.hexdigest()[:16]


def _resolve_hub(name: str, place: Located, *, online: bool) -> ResolvedModel:
    assert place.hub is not None
    revision = place.revision or "main"
    commit = revision if _COMMIT.match(revision) else _cached_commit(place.hub, revision)
    if commit is None and online:
        commit = _ask_hub(name, place.hub, revision)
    directory = _cached_snapshot(place.hub, commit)
    return ResolvedModel(
        name,
        identity=f"hub:{place.hub}@{commit or revision}",
        directory=directory,
        source=place.hub,
        revision=commit or revision,
        provisional=commit is None,
    )


def _cache_folder(hub: str) -> Path:
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE) / f"models--{hub.replace('/', '--')}"


def _cached_commit(hub: str, revision: str) -> str | None:
    ref = _cache_folder(hub) / "refs" / revision
    return ref.read_text().strip() if ref.is_file() else None


def _cached_snapshot(hub: str, commit: str | None) -> Path | None:
    if commit is None:
        return None
    folder = _cache_folder(hub) / "snapshots" / commit
    return folder if (folder / "config.json").is_file() else None


def tokenizer_directory(model: ResolvedModel, online: bool = False) -> Path | None:
    """The directory with the files of a model's tokenizer; None where they are not on this machine.

    online: of a model on a hub, fetch these files; its weights stay there.
    """
    if model.directory or model.revision is None:
        return model.directory
    folder = _cache_folder(model.source) / "snapshots" / model.revision
    if (folder / "tokenizer_config.json").is_file():
        return folder
    return _fetch_tokenizer(model.source, model.revision) if online else None


def _fetch_tokenizer(hub: str, revision: str) -> Path | None:
    from huggingface_hub import HfApi, snapshot_download

    try:
        # One question first: a hub that cannot be reached is asked for files many times.
        HfApi().model_info(hub, revision=revision, timeout=10)
        found = Path(snapshot_download(hub, revision=revision, allow_patterns=_TOKENIZER_FILES))
    except Exception:  # The trial that downloads the model says what is wrong.
        return None
    return found if (found / "tokenizer_config.json").is_file() else None


def _ask_hub(name: str, hub: str, revision: str) -> str:
    from huggingface_hub import HfApi

    try:
        return str(HfApi().model_info(hub, revision=revision).sha)
    except Exception as error:
        raise ModelError(
            f"the model {name} was not found on the hub",
            found=f"{hub}@{revision}: {type(error).__name__}: {error}",
            expected="an id and revision that can be reached",
            todo="check the id, the network, and HF_TOKEN for a gated one",
        ) from error
