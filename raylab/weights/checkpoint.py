"""The weights of a whole model, by rows.

Model: a checkpoint is a folder of safetensors files and a config.json. Where the architecture ties
the output head to the input embedding (`raylab.spec.tied`), the two are one parameter: a head
that is stored as well is an alias, listed in `tied` and left out of `shapes`. Buffers that older
versions of transformers stored beside the parameters (attention masks, rotary frequencies) are in
`skipped`.
Invariant: every parameter is in `shapes` once, in bf16, fp16 or fp32; any other dtype is refused
by name. An alias whose bytes differ from its partner's is an error as soon as those rows are
read, because transformers would then not tie the two.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from raylab.errors import ModelError
from raylab.spec.quantized import method_of, quantization_of, way_out
from raylab.spec.tied import HEADS, find_ties
from raylab.spec.weight_files import read_json
from raylab.weights.memory_names import MemoryNames, names_in_memory
from raylab.weights.name_matching import names_of_checkpoint
from raylab.weights.safetensors_reader import (
    DTYPES,
    QUANTIZED_BITS,
    Rows,
    SafetensorsFolder,
    Shape,
)
from raylab.weights.stacked_experts import RestackedFolder, restacked

if TYPE_CHECKING:
    import torch

_BUFFER = re.compile(r"\.(rotary_emb\.inv_freq|attention\.masked_bias|attn\.masked_bias)$")
_MASK = re.compile(r"\.(attention|attn)\.bias$")
"""A causal mask where its entries are whole numbers; a bias of that name has real ones."""


class Weights(Protocol):
    """The weights of a whole model, by rows: a checkpoint, perhaps with adapters merged in."""

    @property
    def shapes(self) -> Mapping[str, Shape]:
        """The shape of every parameter, by name."""

    def stored_name(self, name: str) -> str | None:
        """The name in `shapes` of the parameter that a module tree calls `name`, if it exists."""

    def is_alias(self, name: str) -> bool:
        """Whether `name` is tied to another parameter."""

    def names_in_memory(self, auto_class: str) -> MemoryNames:
        """What a class of transformers calls the tensors; slow. Raises ModelError."""

    def raw(self, name: str, start: int, stop: int) -> torch.Tensor:
        """Rows [start, stop), 2-D, in their own dtype; an alias has its partner's rows."""


class StoredWeights(Weights, Protocol):
    """The weights of a whole model, with rows as numpy has them."""

    def stored(self, name: str, start: int, stop: int) -> Rows:
        """Rows [start, stop), 2-D, in their own dtype, uint16 being bfloat16."""

    def dtype(self, name: str) -> str:
        """The dtype of a parameter by any of its names: BF16, F16 or F32."""


class Checkpoint:
    """The weights of a whole model. Safe in any number of threads."""

    def __init__(self, directory: Path, like: Checkpoint | None = None) -> None:
        """Open the checkpoint at `directory`; reads headers only. Raises ModelError.

        `like`: a model whose tensors have the same names here, whatever its files call them.
        """
        self._directory = directory
        folder = SafetensorsFolder(directory)
        self._folder: SafetensorsFolder | RestackedFolder = folder
        if like is not None:
            folder.rename(self._names_in(like))
            self._folder = restacked(
                folder, like._folder.shapes, self.names_in_memory, like.names_in_memory
            )
        config = _config(directory)
        stored = self._folder.shapes
        self.skipped: Mapping[str, Shape] = {
            name: shape for name, shape in stored.items() if self._is_buffer(name)
        }
        self._check_dtypes()
        ties = find_ties(stored, config)
        partners = {name: tie.partner for tie in ties for name in tie.names}
        self.aliases: Mapping[str, str] = {
            next((name for name in tie.names if name in stored), tie.names[0]): tie.partner
            for tie in ties
        }
        """The stored partner of every alias, stored or not; one name each."""
        self.tied: Mapping[str, Shape] = {n: stored[n] for n in partners if n in stored}
        self._partners = partners
        self._stored_aliases = {partners[name]: name for name in self.tied}
        self.shapes: Mapping[str, Shape] = {
            name: shape
            for name, shape in stored.items()
            if name not in self.skipped and name not in self.tied
        }
        for name, shape in self.tied.items():
            if shape != stored[partners[name]]:
                self._refuse_alias(name, f"{shape} and {stored[partners[name]]}")

    def stored_name(self, name: str) -> str | None:
        """The name in `shapes` of the parameter that a module tree calls `name`, if it is there.

        An alias goes by its partner's name; GPT-NeoX's head is called lm_head in transformers 5
        and embed_out in files.
        """
        names = [name, *(HEADS if name in HEADS else ())]
        found = [self._partners.get(candidate, candidate) for candidate in names]
        return next((candidate for candidate in found if candidate in self.shapes), None)

    def is_alias(self, name: str) -> bool:
        """Whether `name` is tied to another tensor, stored or not."""
        return name in self._partners

    def names_in_memory(self, auto_class: str) -> MemoryNames:
        """What a class of transformers calls the tensors of the files; imports transformers.

        Raises ModelError where transformers does not know the class from the config.
        """
        return names_in_memory(self._directory, self._folder.own_names.values(), auto_class)

    def dtype(self, name: str) -> str:
        """The dtype of a parameter by any of its names: BF16, F16 or F32."""
        return self._folder.dtypes[self._partners.get(name, name)]

    def raw(self, name: str, start: int, stop: int) -> torch.Tensor:
        """`stored` as a tensor of the same memory."""
        from raylab.weights.torch_rows import as_torch

        return as_torch(self.stored(name, start, stop))

    def stored(self, name: str, start: int, stop: int) -> Rows:
        """Rows [start, stop), 2-D, in the file's dtype, uint16 being bfloat16; a vector has one
        row.

        A view of the mapped file where it is aligned; not to be written to. Raises ModelError
        where a stored alias differs in these rows.
        """
        rows = self._folder.rows(self._partners.get(name, name), start, stop)
        if alias := self._stored_aliases.get(name):
            same = self._folder.rows(alias, start, stop)
            if not np.array_equal(rows.view(np.uint8), same.view(np.uint8)):
                self._refuse_alias(alias, f"they differ in rows {start} to {stop}")
        return rows

    def will_need(self, name: str, start: int, stop: int) -> None:
        """Begin to read the rows that `stored` gives into the page cache, where they lie in one
        place of a file."""
        if isinstance(self._folder, SafetensorsFolder):
            self._folder.will_need(self._partners.get(name, name), start, stop)

    def _names_in(self, like: Checkpoint) -> dict[str, str]:
        """The names in `like` of the tensors that it calls otherwise."""
        mine, theirs = self._folder.shapes, like._folder.shapes
        only_mine = {name: shape for name, shape in mine.items() if name not in theirs}
        only_theirs = {name: shape for name, shape in theirs.items() if name not in mine}
        if not only_mine or not only_theirs:
            return {}
        return names_of_checkpoint(
            only_mine, only_theirs, self.names_in_memory, like.names_in_memory
        )

    def _is_buffer(self, name: str) -> bool:
        is_real = self._folder.dtypes[name] in DTYPES
        return bool(_BUFFER.search(name) or (not is_real and _MASK.search(name)))

    def _check_dtypes(self) -> None:
        dtypes = self._folder.dtypes
        refused = sorted(n for n in dtypes if dtypes[n] not in DTYPES and n not in self.skipped)
        if not refused:
            return
        codes = sorted({dtypes[name] for name in refused} & set(QUANTIZED_BITS))
        raise ModelError(
            f"{self._directory} holds tensors of a dtype that is not compared",
            found=", ".join(f"{name}: {dtypes[name]}" for name in refused[:5]),
            expected=" or ".join(DTYPES),
            todo=f"raylab reads no {' and no '.join(codes)}: dequantise the model with the "
            "library that wrote it, or take the one that it was made from"
            if codes
            else "save the model in one of these dtypes, not quantised",
        )

    def _refuse_alias(self, name: str, found: str) -> None:
        raise ModelError(
            f"{self._directory} stores {name}, which its architecture or its config.json ties to "
            f"{self._partners[name]}, and they are not the same",
            found=found,
            expected="one weight under both names",
            todo="set tie_word_embeddings to false in config.json if they are two weights, "
            "or remove the one that is not used",
        )


class CountedWeights:
    """Weights, and how many bytes of them were read."""

    def __init__(self, weights: StoredWeights) -> None:
        """Nothing is read yet."""
        self._weights, self._lock = weights, Lock()
        self.shapes: Mapping[str, Shape] = weights.shapes
        self.stored_name, self.is_alias = weights.stored_name, weights.is_alias
        self.names_in_memory, self.dtype = weights.names_in_memory, weights.dtype
        self.bytes_read = 0

    def raw(self, name: str, start: int, stop: int) -> torch.Tensor:
        """Rows [start, stop) as `Weights.raw`."""
        rows = self._weights.raw(name, start, stop)
        self._count(rows.nbytes)
        return rows

    def stored(self, name: str, start: int, stop: int) -> Rows:
        """Rows [start, stop) as `StoredWeights.stored`."""
        rows = self._weights.stored(name, start, stop)
        self._count(rows.nbytes)
        return rows

    def _count(self, size: int) -> None:
        with self._lock:
            self.bytes_read += size


def _config(directory: Path) -> Mapping[str, Any]:
    """config.json; empty where a folder of weights has none. Raises ModelError."""
    file = directory / "config.json"
    found = read_json(file, "a model's config") if file.exists() else {}
    if settings := quantization_of(found):
        raise ModelError(
            f"{directory} is quantised already",
            found=f"quantization_config in config.json: {method_of(settings)}",
            expected="full-precision weights",
            todo=way_out(settings),
        )
    return found
