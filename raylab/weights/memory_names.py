"""What the tensors of a checkpoint's files are called in memory, by transformers' own table.

Model: loading renames tensors, and computes some out of several (experts are stacked, projections
concatenated or split). `names_in_memory` repeats the renaming for one checkpoint and one class, as
`from_pretrained` does it, on a model without storage. The answer goes both ways: `in_memory` and
`in_files` hold what is only renamed, `computed` holds what is computed, with its sources.
`renamed` says the same of any other name, such as one that an older version of a class had.
Invariant: a name is never guessed. Every name in memory is a parameter or buffer of the class, and
no two files' names become one, unless `computed` says so. No weight is read, no code that came
with a model runs.

It costs the import of transformers (3 s) and the class (up to 1 s): it is asked only where names
differ. The entry point for what merges tensors is `MemoryNames.computed`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from raylab.errors import ModelError
from raylab.spec.weight_files import read_json

AUTO_CLASSES = ("AutoModelForCausalLM", "AutoModelForImageTextToText")
"""The classes that a base model is loaded with; a config that the first does not know goes to the
next. Adapters of a model with images were trained on either."""


@dataclass(frozen=True)
class Computed:
    """Tensors in memory that loading computes from tensors of the files.

    targets: their names in memory; more than one where a tensor is split.
    sources: for each pattern of the table, the files' names in the order in which their tensors
    are taken (experts by their number).
    operations: transformers' own, applied one after the other (`transformers.core_model_loading`:
    MergeModulelist stacks, Concatenate, Chunk, Transpose, ...).
    """

    targets: tuple[str, ...]
    sources: Mapping[str, tuple[str, ...]]
    operations: tuple[Any, ...]


@dataclass(frozen=True)
class MemoryNames:
    """The names of one checkpoint's tensors in one class.

    in_memory: file's name -> name in memory, of every tensor that loading only renames or keeps.
    in_files: the way back. computed: by name in memory, what loading computes. not_loaded: files'
    names that the class has no place for, or takes from another. shapes: of every parameter and
    buffer in memory.
    """

    class_name: str
    in_memory: Mapping[str, str]
    in_files: Mapping[str, str]
    computed: Mapping[str, Computed]
    not_loaded: frozenset[str]
    shapes: Mapping[str, tuple[int, ...]]
    linear: frozenset[str]
    """The weights in memory that linear layers own; experts and routers may be parameters alone."""
    transposed: frozenset[str]
    """Modules whose experts are stacked as (experts, inputs, outputs), not outputs first."""
    renamed: Callable[[str], str | None]
    """The name in memory of any name; None where the class has no such tensor, or computes it."""


def auto_class_of(directory: Path) -> str:
    """The one of AUTO_CLASSES by which transformers loads the model at `directory`.

    The first where its config.json is not there, or names a class of its own. Raises ModelError.
    """
    from transformers.models.auto import modeling_auto

    file = directory / "config.json"
    config = read_json(file, "a model's config") if file.exists() else {}
    if AUTO_CLASSES[0] in (config.get("auto_map") or {}):
        return AUTO_CLASSES[0]
    known = (
        modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
        modeling_auto.MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES,
    )
    kind = config.get("model_type")
    pairs = zip(AUTO_CLASSES, known, strict=True)
    return next((name for name, kinds in pairs if kind in kinds), AUTO_CLASSES[0])


def loading_class(directory: Path) -> Any:
    """The class of transformers whose `from_pretrained` loads the model at `directory`."""
    import transformers

    return getattr(transformers, auto_class_of(directory))


def names_of_first_class(names: Callable[[str], MemoryNames]) -> MemoryNames:
    """What the first of AUTO_CLASSES that knows the model calls its tensors: the one that loads it.

    names: `names_in_memory` of one model. Raises ModelError where no class knows it.
    """
    return known_names(names)[0]


def known_names(names: Callable[[str], MemoryNames]) -> list[MemoryNames]:
    """What each of AUTO_CLASSES that knows the model calls its tensors. Raises ModelError."""
    found, problem = [], None
    for auto_class in AUTO_CLASSES:
        try:
            found.append(names(auto_class))
        except ModelError as error:
            problem = problem or error
    if not found and problem:
        raise problem
    return found


def names_in_memory(
    directory: Path, names: Collection[str], auto_class: str = AUTO_CLASSES[0]
) -> MemoryNames:
    """What `auto_class` of transformers calls the tensors `names` of the files at `directory`.

    Raises ModelError where transformers cannot build the class from the config.json alone.
    """
    return _names_in_memory(directory, tuple(sorted(names)), auto_class)


@lru_cache(maxsize=8)
def _names_in_memory(directory: Path, names: tuple[str, ...], auto_class: str) -> MemoryNames:
    from transformers.conversion_mapping import get_model_conversion_mapping
    from transformers.core_model_loading import WeightConverter, WeightRenaming, dot_natural_key

    model = without_storage(directory, auto_class)
    transforms = get_model_conversion_mapping(model)
    converters = [item for item in transforms if isinstance(item, WeightConverter)]
    renamings = [item for item in transforms if isinstance(item, WeightRenaming)]
    state, modules = model.state_dict(), list(model.named_modules())
    table = _Table(renamings, converters, model.base_model_prefix, state)
    in_memory: dict[str, str] = {}
    in_files: dict[str, str] = {}
    not_loaded: set[str] = set()
    collected: dict[str, tuple[Any, dict[str, list[str]]]] = {}
    for name in sorted(names, key=dot_natural_key):  # The order in which loading takes them.
        found, pattern = table.look_up(name)
        if found not in state or found in in_files:
            not_loaded.add(name)
        elif pattern is None:
            in_memory[name], in_files[found] = found, name
        else:
            converter = next(item for item in converters if pattern in item.source_patterns)
            _, sources = collected.setdefault(found, (converter, {}))
            sources.setdefault(pattern, []).append(name)
    return MemoryNames(
        class_name=type(model).__name__,
        in_memory=in_memory,
        in_files=in_files,
        computed=_computed(collected),
        not_loaded=frozenset(not_loaded),
        shapes={name: tuple(tensor.shape) for name, tensor in state.items()},
        linear=frozenset(f"{name}.weight" for name, module in modules if _is_linear(module)),
        transposed=frozenset(n for n, module in modules if getattr(module, "is_transposed", False)),
        renamed=table.renamed,
    )


def _is_linear(module: Any) -> bool:
    from torch import nn
    from transformers.pytorch_utils import Conv1D

    return isinstance(module, (nn.Linear, Conv1D))


def without_storage(directory: Path, auto_class: str) -> Any:
    """The model that `auto_class` makes of the config at `directory`, on the device `meta`."""
    import torch
    import transformers

    read_json(directory / "config.json", "a model's config")
    try:
        config = transformers.AutoConfig.from_pretrained(
            directory, trust_remote_code=False, local_files_only=True
        )
        with torch.device("meta"):
            return getattr(transformers, auto_class).from_config(config, trust_remote_code=False)
    except Exception as error:  # A config made by others fails anywhere in the class's own code.
        lines = str(error).strip().splitlines() or [""]
        raise ModelError(
            "transformers cannot say what the model's tensors are called in memory",
            found=f"{directory}, {auto_class}: {type(error).__name__}: {lines[0]}",
            expected="a config.json of an architecture that transformers has",
        ) from error


@dataclass(frozen=True)
class _Table:
    """transformers' transforms for one model, applied as its loader applies them."""

    renamings: list[Any]
    converters: list[Any]
    base_model_prefix: str
    state: Mapping[str, Any]

    def look_up(self, name: str) -> tuple[str, str | None]:
        """(name in memory, the pattern of the converter that takes it or None)."""
        from transformers.core_model_loading import rename_source_key

        found, pattern = rename_source_key(
            name, self.renamings, self.converters, self.base_model_prefix, self.state
        )
        if found not in self.state and name in self.state:
            return rename_source_key(name, [], [], self.base_model_prefix, self.state)
        return found, pattern

    def renamed(self, name: str) -> str | None:
        """`MemoryNames.renamed`."""
        found, pattern = self.look_up(name)
        return found if pattern is None and found in self.state else None


def _computed(collected: Mapping[str, tuple[Any, dict[str, list[str]]]]) -> dict[str, Computed]:
    found: dict[str, Computed] = {}
    for first, (converter, sources) in collected.items():
        pattern, *others = converter.target_patterns
        targets = (first, *(first.replace(pattern, other) for other in others))
        ordered = {p: tuple(sources[p]) for p in converter.source_patterns if p in sources}
        made = Computed(targets, ordered, tuple(converter.operations))
        found.update(dict.fromkeys(targets, made))
    return found
