"""Reads the tensors of an adapter's file into parts of the base model's tensors.

Model: PEFT saves a tensor under the module that it belongs to, and the ending of its name says
its kind: `base_model.model.<module>.lora_A.weight`. A name without an ending of PEFT's is a
parameter of the base model, saved whole: of modules_to_save, a trained bias, or an embedding
beside its factors (`<module>.base_layer.weight`).
Invariant: every tensor of the file goes into exactly one part, or the adapter is refused with
the names that belong to none. Parts of one tensor stand in the order in which they apply.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from functools import lru_cache, partial
from pathlib import Path

import torch

from raylab.errors import ModelError
from raylab.weights.adapter_config import AdapterConfig
from raylab.weights.adapter_fields import initialisation
from raylab.weights.adapter_keys import module_names
from raylab.weights.adapter_parts import (
    BiasShift,
    Factors,
    LowRank,
    Part,
    Replaced,
    TrainedTokens,
)
from raylab.weights.checkpoint import Weights
from raylab.weights.initial_factors import InitialFactors, decomposed
from raylab.weights.name_matching import WeightsByOtherNames
from raylab.weights.parameter_parts import NamedMatrices, Wrapped, WrappedParameters
from raylab.weights.safetensors_reader import DTYPES, SafetensorsFolder, Shape
from raylab.weights.torch_rows import as_torch

_ENDINGS = {
    ".lora_A.weight": "A",
    ".lora_B.weight": "B",
    ".lora_B.bias": "shift",
    ".lora_embedding_A": "embedding A",
    ".lora_embedding_B": "embedding B",
    ".lora_magnitude_vector": "magnitude",
    ".token_adapter.trainable_tokens_delta": "tokens",
}
_PEFT_INFIXES = ("lora_", "token_adapter.", "modules_to_save.", "original_module.", "base_layer.")
_BASE_LAYER = ".base_layer."
_SAVED_TWICE = (".modules_to_save.", ".original_module.")
"""With bias="all" PEFT saves the biases of a module of modules_to_save three times: as they are
loaded, and under these two names, which are not loaded."""
_STATE_OF_TRAINING = {
    ".lora_velora_embed": "velora_config",
    ".lora_monteclora_sampler.": "monteclora_config",
}
"""Tensors that change no output of a trained model, and the field that explains them."""
_FACTORS_KEPT = 16
"""How many tensors' factors an adapter keeps in memory."""

Kinds = Mapping[str, str]
"""The file's name of each tensor of a module, by its kind: a value of `_ENDINGS`."""
Parts = dict[str, tuple[Part, ...]]


def read_parts(directory: Path, config: AdapterConfig, base: Weights | None) -> Parts:
    """The parts of every tensor that the adapter at `directory` changes. Raises ModelError."""
    folder = SafetensorsFolder(directory, "adapter_model")
    modules, whole = _group_tensors(directory, folder, config)
    wrapped = _wrapped(config, base, modules)
    if base is None:
        _refuse_without_base(directory, config, wrapped)
    parts: Parts = {
        name: (Replaced(folder.shapes[key], partial(_rows, folder, key), _BASE_LAYER in key),)
        for name, key in whole.items()
    }
    parameters = {module: own for module in modules if wrapped and (own := wrapped.of(module))}
    if base is not None:
        wanted = {f"{module}.weight": None for module in modules if module not in parameters}
        base = WeightsByOtherNames(base, wanted | {n: folder.shapes[k] for n, k in whole.items()})
    reader = _Reader(folder, config, base)
    for module, kinds in modules.items():
        if wrapped and module in parameters:
            found = reader.parts_of_parameter(wrapped, parameters[module], kinds)
        else:
            found = ((f"{module}.{end}", part) for end, part in reader.parts_of(module, kinds))
        for name, part in found:
            parts[name] = (*parts.get(name, ()), part)
    return parts


def _wrapped(
    config: AdapterConfig, base: Weights | None, modules: Collection[str]
) -> WrappedParameters | NamedMatrices | None:
    """What target_parameters names, if the config has any. Raises ModelError."""
    if not config.target_parameters:
        return None
    return WrappedParameters(config, base, modules) if base else NamedMatrices(config, modules)


def _refuse_without_base(
    directory: Path, config: AdapterConfig, wrapped: WrappedParameters | NamedMatrices | None
) -> None:
    """Refuse an adapter whose tensors have no meaning without the base model."""
    needing = list(config.base_fields)
    if isinstance(wrapped, NamedMatrices) and not wrapped.needs_base:
        needing.remove("target_parameters")
    if needing:
        raise ModelError(
            "what the adapter changes depends on its base model",
            found=f"{directory}: {', '.join(needing)}",
            expected="the base model's weights",
            todo="name the base model: --base, or base_model in a study",
        )


def _group_tensors(
    directory: Path, folder: SafetensorsFolder, config: AdapterConfig
) -> tuple[dict[str, dict[str, str]], dict[str, str]]:
    """(the kinds of every module, the file's name of every parameter that is saved whole)."""
    modules: dict[str, dict[str, str]] = {}
    whole: dict[str, str] = {}
    refused = [f"{key}: {dtype}" for key, dtype in folder.dtypes.items() if dtype not in DTYPES]
    known = config.model_extra or {}
    left_out = [mark for mark, field in _STATE_OF_TRAINING.items() if known.get(field)]
    keys = [key for key in folder.shapes if not any(mark in key for mark in left_out)]
    keys = [key for key in keys if not _is_saved_twice(key, folder)]
    for key, own in module_names(keys).items():
        ending = next((end for end in _ENDINGS if own.endswith(end)), "")
        stem = own.removesuffix(ending)
        name = stem if ending else stem.replace(_BASE_LAYER, ".")
        is_foreign = any(infix in name for infix in _PEFT_INFIXES)
        if is_foreign or name in whole:
            refused.append(key)
        elif ending:
            modules.setdefault(name, {})[_ENDINGS[ending]] = key
        else:
            whole[name] = key
    if refused:
        raise ModelError(
            "the adapter has tensors that are not read",
            found=f"{directory}: {', '.join(sorted(refused)[:5])} ({len(refused)} in all)",
            expected=f"names as PEFT saves them, in {', '.join(DTYPES)}",
        )
    return modules, whole


def _is_saved_twice(key: str, folder: SafetensorsFolder) -> bool:
    return any(mark in key and key.replace(mark, ".") in folder.shapes for mark in _SAVED_TWICE)


class _Reader:
    """Makes the parts of one module after the other, and checks every shape before any use."""

    def __init__(
        self, folder: SafetensorsFolder, config: AdapterConfig, base: Weights | None
    ) -> None:
        self._folder, self._config, self._base = folder, config, base
        self._factors = lru_cache(maxsize=_FACTORS_KEPT)(self._read_factors)
        self._initial = InitialFactors(config, base, _FACTORS_KEPT)

    def parts_of(self, module: str, kinds: Kinds) -> Iterator[tuple[str, Part]]:
        """("weight" or "bias", part) of one module. Raises ModelError for unknown sets of kinds."""
        is_dora = self._config.use_dora
        match sorted(kinds):
            case ["A", "B"] if not is_dora:
                yield "weight", self._low_rank(module, kinds["A"], kinds["B"])
            case ["A", "B", "shift"] if not is_dora and self._config.lora_bias:
                yield "weight", self._low_rank(module, kinds["A"], kinds["B"])
                yield "bias", self._shift(module, kinds["shift"])
            case ["A", "B", "magnitude"] if is_dora:
                yield "weight", self._low_rank(module, kinds["A"], kinds["B"], kinds["magnitude"])
            case ["embedding A", "embedding B"] if not is_dora:
                yield "weight", self._embedding(module, kinds)
            case ["tokens"]:
                yield "weight", self._tokens(module, kinds["tokens"])
            case found:
                raise ModelError(
                    f"the adapter's tensors for {module} do not form pairs that are read",
                    found=f"{', '.join(found)}, use_dora: {is_dora}",
                    expected="A and B, with a magnitude for DoRA on a linear layer",
                )

    def parts_of_parameter(
        self, wrapped: WrappedParameters | NamedMatrices, parameter: Wrapped, kinds: Kinds
    ) -> Iterator[tuple[str, Part]]:
        """(name in the base model's files, part) of one parameter. Raises ModelError."""
        if sorted(kinds) != ["A", "B"]:
            raise ModelError(
                f"the adapter's tensors for {parameter.name} do not form pairs that are read",
                found=", ".join(sorted(kinds)),
                expected="A and B",
            )
        a, b = kinds["A"], kinds["B"]
        shapes = self._folder.shapes
        yield from wrapped.parts(parameter, partial(self._factors, a, b), shapes[a], shapes[b])

    def _low_rank(self, module: str, a: str, b: str, magnitude: str | None = None) -> LowRank:
        down, up = self._folder.shapes[a], self._folder.shapes[b]
        self._check_factors(module, a, b)
        transposed = self._config.fan_in_fan_out
        if magnitude is not None and self._folder.shapes[magnitude] != (up[0],):
            raise ModelError(
                f"the magnitude of {module} does not fit",
                found=self._folder.shapes[magnitude],
                expected=f"({up[0]},), one for each row of the weight",
            )
        shape = (down[1], up[0]) if transposed else (up[0], *down[1:])
        trained = partial(self._factors, a, b, self._config.scale_of(module))
        if self._config.use_qalora:
            self._refuse_pooled(module, shape)
        if self._config.decomposition:
            initial = partial(self._initial.factors, f"{module}.weight", trained)
            return decomposed(shape, transposed, trained, initial)
        return LowRank(
            shape=shape,
            factors=trained,
            transposed=transposed,
            # PEFT's merge of MiCA rounds the delta first.
            rounds_twice=initialisation(self._config.init_lora_weights) == "mica",
            magnitude=None if magnitude is None else partial(self._float32, magnitude),
        )

    def _refuse_pooled(self, module: str, shape: Shape) -> None:
        """Refuse an A over pooled inputs, as QA-LoRA on GPTQ layers has it."""
        name = self._base.stored_name(f"{module}.weight") if self._base else None
        wanted = self._base.shapes[name] if self._base and name else shape
        if shape != wanted and shape[1] * self._config.qalora_group_size == wanted[1]:
            raise ModelError(
                "the adapter's config has parts that are not read",
                found=f"use_qalora: A of {module} has {shape[1]} columns for inputs that are "
                f"pooled in groups of {self._config.qalora_group_size}",
                expected=f"{wanted[1]} columns: use_qalora on layers that are not quantised",
            )

    def _embedding(self, module: str, kinds: Kinds) -> LowRank:
        a, b = kinds["embedding A"], kinds["embedding B"]
        self._check_factors(module, a, b)
        return LowRank(
            shape=(self._folder.shapes[a][1], self._folder.shapes[b][0]),
            factors=partial(self._factors, a, b, self._config.scale_of(module)),
            transposed=True,
            embedding=True,
            rounds_twice=True,
        )

    def _shift(self, module: str, key: str) -> BiasShift:
        scale = self._config.scale_of(module)
        return BiasShift(self._folder.shapes[key], partial(_rows, self._folder, key), scale)

    def _tokens(self, module: str, key: str) -> TrainedTokens:
        indices = tuple(self._config.tokens_of(module))
        saved = self._folder.shapes[key]
        name = self._base.stored_name(f"{module}.weight") if self._base else None
        height = self._base.shapes[name][0] if self._base and name else max(indices, default=0) + 1
        is_sound = len(set(indices)) == len(indices) and all(0 <= i < height for i in indices)
        if len(saved) != 2 or saved[0] != len(indices) or not is_sound:
            raise ModelError(
                f"the trained tokens of {module} do not fit",
                found=f"{saved} for trainable_token_indices {list(indices)[:5]}",
                expected=f"a row for each of different tokens below {height}",
            )
        return TrainedTokens((height, saved[1]), indices, partial(_rows, self._folder, key))

    def _check_factors(self, module: str, a: str, b: str) -> None:
        down, up = self._folder.shapes[a], self._folder.shapes[b]
        rank = self._config.rank_of(module)
        # Of a convolution A has its kernel, and B one of a single entry.
        is_plain = len(down) == 2 or not (self._config.fan_in_fan_out or self._config.decomposition)
        fits = is_plain and len(down) == len(up) > 1 and set(up[2:]) <= {1}
        if not fits or not rank == down[0] == up[1]:
            raise ModelError(
                f"the factors of {module} do not fit",
                found=f"A {down}, B {up}",
                expected=f"A ({rank}, columns) and B (rows, {rank}) of a linear layer, an "
                "embedding or a convolution of one group, with the rank of adapter_config.json",
            )

    def _read_factors(self, a: str, b: str, scale: float) -> Factors:
        return Factors(self._float32(a).flatten(1), self._float32(b).flatten(1), scale)

    def _float32(self, key: str) -> torch.Tensor:
        """The whole tensor, a copy with an address of its own."""
        return as_torch(self._folder.tensor(key)).to(torch.float32, copy=True)


def _rows(folder: SafetensorsFolder, key: str, start: int, stop: int) -> torch.Tensor:
    return as_torch(folder.rows(key, start, stop))
