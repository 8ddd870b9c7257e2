"""The models that a request names -> where they lie.

Model: a model is named as everywhere (`raylab.store.references`), or as BASE+ADAPTER: an adapter
with the base model that it was trained from. Where that base is the merge's own, the adapter is as
any other; over another base both make one whole model. As the merge's base model it is that one too
(`raylab.merge.whole_base`). A directory whose name has a plus is itself.
Invariant: nothing is opened but configs, and what makes a base model. Quantised checkpoints are
taken as they are, or as copies in full precision where the caller asks for these.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from raylab.errors import ModelError
from raylab.merge.whole_base import whole_base
from raylab.spec.merges import MergeRequest
from raylab.spec.output_tokenizer import BASE, UNION, OutputTokenizer
from raylab.spec.vocabularies import has_tokenizer
from raylab.store.references import ModelLocation, find_base, find_model


@dataclass(frozen=True)
class NamedModels:
    """Where the models of a merge lie, in order, the directory of its base model, and the folder
    of the tokenizer that it names by a model."""

    locations: tuple[ModelLocation, ...]
    base: Path | None
    tokenizer: Path | None


def find_named(request: MergeRequest, *, dequantize: bool = False) -> NamedModels:
    """Find what the request names. dequantize: take copies of quantised checkpoints in full
    precision. Raises ModelError, and OutError and StoreError where a copy cannot be made."""
    base = _found_base(request.base, dequantize) if request.base else None
    found = [_located(item.model, base) for item in request.inputs]
    if dequantize:
        from raylab.weights.dequantize import in_full_precision

        found = [in_full_precision(location) for location in found]
    return NamedModels(tuple(found), base, _tokenizer(request.tokenizer, base))


def _found_base(reference: str, dequantize: bool) -> Path:
    """The directory of the base model; of BASE+ADAPTER that of the checkpoint which both make."""
    is_whole = _names_both(reference)
    location = _located(reference, None) if is_whole else ModelLocation(base=find_base(reference))
    if dequantize:
        from raylab.weights.dequantize import in_full_precision

        location = in_full_precision(location)
    assert location.base, "a base model has a directory"
    return whole_base(reference, location) if is_whole else location.base


def _tokenizer(asked: OutputTokenizer | None, base: Path | None) -> Path | None:
    if asked is None or asked.source in (UNION, BASE):
        return None
    return tokenizer_folder(asked.source, _located(asked.source, base), base)


def tokenizer_folder(name: str, location: ModelLocation, base: Path | None) -> Path:
    """The folder of the tokenizer of the model `name` at `location`; that of an adapter without one
    is its base model's, or else the merge's. Raises ModelError."""
    folders = (location.checkpoint, *reversed(location.adapters), location.base, base)
    own = (folder for folder in folders if folder and has_tokenizer(folder))
    if folder := next(own, None):
        return folder
    raise ModelError(
        "the model that the output's tokenizer is to be of has none",
        found=name,
        expected="a folder with a tokenizer",
    )


def _names_both(reference: str) -> bool:
    """Whether it is BASE+ADAPTER, and no directory of that name."""
    return "+" in reference and not Path(reference).expanduser().exists()


def _located(reference: str, base: Path | None) -> ModelLocation:
    if not _names_both(reference):
        return find_model(reference).location
    own_base, _, adapter = reference.partition("+")
    start, location = find_base(own_base), find_model(adapter).location
    if not location.adapters:
        raise ModelError(
            f"{reference} is no adapter over a base model",
            found=f"{adapter}, a whole model",
            expected="BASE+ADAPTER",
            todo=f"name {adapter} alone",
        )
    is_over_base = base is not None and start.resolve() == base.resolve()
    return replace(location, base=start, is_whole=not is_over_base)
