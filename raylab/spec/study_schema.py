"""The JSON schema of a study file, in which every field is described by its docstring.

Model: pydantic makes the schema. The docstring of a field is the text behind it in the source of
its class; pydantic could read it when a class is made, which takes longer than all else that a
command does with a study.
"""

from __future__ import annotations

import ast
import inspect
import sys
from collections.abc import Iterator
from functools import cache
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema

from raylab.spec.study import Study


def study_schema() -> dict[str, Any]:
    """The JSON schema of `Study`."""
    return Study.model_json_schema(schema_generator=_Described)


class _Described(GenerateJsonSchema):
    """pydantic's schema of a model, with the docstrings of its fields."""

    def model_schema(self, schema: Any) -> Any:
        found = super().model_schema(schema)
        fields = found.get("properties", {})
        for name, text in field_docstrings(schema["cls"]).items():
            if name in fields:
                fields[name] = {**fields[name], "description": text}
        return found


def field_docstrings(model: type[BaseModel]) -> dict[str, str]:
    """The docstrings of the fields of `model` and of its bases, by the field's name."""
    found: dict[str, str] = {}
    for kind in reversed(model.__mro__):
        if kind.__module__.startswith("raylab."):
            found |= _docstrings_in(kind.__module__).get(kind.__name__, {})
    return found


@cache
def _docstrings_in(module: str) -> dict[str, dict[str, str]]:
    """The docstrings of the fields of every class of a module, by class and field."""
    tree = ast.parse(inspect.getsource(sys.modules[module]))
    return {
        node.name: dict(_docstrings(node)) for node in tree.body if isinstance(node, ast.ClassDef)
    }


def _docstrings(of: ast.ClassDef) -> Iterator[tuple[str, str]]:
    for field, text in zip(of.body, of.body[1:], strict=False):
        match field, text:
            case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(
                value=ast.Constant(value=str(said))
            ):
                yield name, inspect.cleandoc(said)
