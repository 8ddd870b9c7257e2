"""What transformers says of an architecture: whether its embeddings are tied, and by which names.

Model: the facts are read from the source of the installed transformers, which is parsed and not
imported: the class of a `model_type` and its default of `tie_word_embeddings` from configuration
modules, `_tied_weights_keys` ({name: the name that it is tied to}) from modeling modules.
Invariant: nothing of transformers runs. An architecture that it does not know is not tied unless
its config says so, and its names are then unknown (an empty table).
"""

from __future__ import annotations

import ast
import importlib.util
from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

Config = Mapping[str, Any]

_CAUSAL = ("ForCausalLM", "LMHeadModel", "ForConditionalGeneration")
"""The ends of the names of classes with an output head, where a config does not name its own."""


def ties_embeddings(config: Config) -> bool:
    """Whether the input and the output embeddings of a model with this config are one weight."""
    said = config.get("tie_word_embeddings")
    if said is None:
        said = default_of(config.get("model_type"), "tie_word_embeddings")
    return bool(said)


def tied_names(config: Config) -> Mapping[str, str]:
    """The names of tied weights, as the modules of a model in memory are called, and the names
    that they are tied to; empty where transformers does not know the architecture."""
    module = _source("modeling", _folder(config.get("model_type")))
    if module is None:
        return {}
    named = [name for name in config.get("architectures") or () if name in module.classes]
    causal = [name for name in module.classes if name.endswith(_CAUSAL)]
    for name in named or causal:
        found = module.attribute(name, "_tied_weights_keys")
        if isinstance(found, dict) and found:
            return {alias: source for alias, source in found.items() if alias != source}
    return {}


def knows(model_type: Any) -> bool:
    """Whether transformers has a model of this type."""
    return _file("modeling", _folder(model_type)) is not None


def default_of(model_type: Any, field: str) -> Any:
    """The default of a field of the config of a type of models; None where there is none."""
    module = _source("configuration", _folder(model_type))
    name = _auto("CONFIG_MAPPING_NAMES").get(str(model_type))
    return module.attribute(name, field) if module and name else None


def _folder(model_type: Any) -> str:
    """The folder of a type of models: gemma3_text lies in gemma3."""
    known = _auto("SPECIAL_MODEL_TYPE_TO_MODULE_NAME")
    return known.get(str(model_type), str(model_type).replace("-", "_"))


class _Module:
    """The classes of one source file. Attributes are those of a class or of its bases there."""

    def __init__(self, file: Path) -> None:
        tree = ast.parse(file.read_text(encoding="utf-8"))
        self.classes = {node.name: node for node in tree.body if isinstance(node, ast.ClassDef)}

    def attribute(self, name: str, wanted: str) -> Any:
        """The literal that class `name` gives to `wanted`; None where it gives none."""
        node = self.classes.get(name)
        if node is None:
            return None
        for value in _values(node, wanted):
            return value
        bases = [base.id for base in node.bases if isinstance(base, ast.Name) and base.id != name]
        found = (self.attribute(base, wanted) for base in bases)
        return next((value for value in found if value is not None), None)


def _values(node: ast.ClassDef, wanted: str) -> Iterator[Any]:
    for line in node.body:
        match line:
            case ast.AnnAssign(target=ast.Name(id=name), value=ast.expr() as value):
                pass
            case ast.Assign(targets=[ast.Name(id=name)], value=value):
                pass
            case _:
                continue
        if name == wanted and (found := _literal(value)) is not None:
            yield found


def _literal(value: ast.expr) -> Any:
    try:
        return ast.literal_eval(value)
    except ValueError:
        return None


@lru_cache(maxsize=32)
def _source(kind: str, folder: str) -> _Module | None:
    """The module `kind` of the models in `folder`, if the installed transformers has it."""
    file = _file(kind, folder)
    return _Module(file) if file else None


def _file(kind: str, folder: str) -> Path | None:
    file = _models() / folder / f"{kind}_{folder}.py"
    return file if folder.isidentifier() and file.is_file() else None


@lru_cache(maxsize=4)
def _auto(table: str) -> Mapping[str, str]:
    """A table of transformers' models/auto/auto_mappings.py."""
    file = _models() / "auto" / "auto_mappings.py"
    for node in ast.parse(file.read_text(encoding="utf-8")).body:
        match node:
            case ast.Assign(
                targets=[ast.Name(id=name)], value=ast.Call(args=[ast.expr() as pairs])
            ) if name == table:
                return dict(ast.literal_eval(pairs))
    return {}


@lru_cache(maxsize=1)
def _models() -> Path:
    package = importlib.util.find_spec("transformers")
    assert package is not None
    assert package.origin is not None
    return Path(package.origin).parent / "models"
