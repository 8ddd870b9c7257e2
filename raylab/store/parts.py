"""What was reduced, kept by what determines it: rows of tables, without the names of models.

Model: a part is what a reduction says of one comparison, of two models beside each other, or of
one model. Its key is a fingerprint of all that decides its rows: contents of the models, view,
densities. The rows of all parts lie in a few Parquet files of one folder, OUT/reduced/<folder>, and
OUT/reduced/parts.json, written last, names the folder, its files and the keys.
Invariant: `rows` gives back the values that were added, bit for bit. Parts whose files are damaged
or of another form are not there. A study that names fewer models, or other names, loses no part.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pyarrow as pa

from raylab.errors import StoreError
from raylab.parquet import read_parquet
from raylab.store.filesystem import Store
from raylab.store.schemas import SCHEMAS
from raylab.store.tables import rows_of, to_parquet

_FOLDER = "reduced"
_INDEX_NAME = "parts.json"
_INDEX = f"{_FOLDER}/{_INDEX_NAME}"
_FORM = 2
"""To be raised when the same models have other rows than before."""
_KEY = "part"
_NAMES = (
    "comparison", "a", "b", "model", "models", "group", "name", "merge", "parent", "data", "note",
)  # fmt: skip
"""Columns that depend on how a study calls its models and data: they are not kept."""

Row = dict[str, Any]
Rows = Mapping[str, Sequence[Row]]
"""By table."""


class Parts:
    """The parts of a store. Not for two drivers at once."""

    def __init__(self, keys: Iterable[str], rows: dict[str, dict[str, list[Row]]]) -> None:
        """See `load`. rows: by table and part."""
        self._keys, self._rows = set(keys), rows
        self._is_changed = False

    @classmethod
    def load(cls, store: Store) -> Parts:
        """The parts that `store` holds; none where they are damaged or of another form."""
        text = store.read_if_there(_INDEX)
        try:
            index = json.loads(text) if text else {}
            if index.get("form") != _FORM:
                return cls((), {})
            files = {name: _read(store, key, sha) for name, (key, sha) in index["files"].items()}
            return cls(index["parts"], files)
        except (StoreError, ValueError, KeyError, TypeError, AttributeError, pa.ArrowException):
            return cls((), {})

    def __contains__(self, key: str) -> bool:
        return key in self._keys

    def rows(self, key: str, table: str, **names: Any) -> list[Row]:
        """The rows of one part in a table, with `names` for the columns that are not kept."""
        return [{**names, **row} for row in self._rows.get(table, {}).get(key, ())]

    def add(self, key: str, rows: Rows) -> None:
        """Keep the rows of a part; tables that are not named have none."""
        self._keys.add(key)
        self._is_changed = True
        for table, found in rows.items():
            named = [{c: v for c, v in row.items() if c not in _NAMES} for row in found]
            self._rows.setdefault(table, {})[key] = named

    def save(self, store: Store) -> None:
        """Write what was added since the last call, if anything was."""
        if not self._is_changed:
            return
        files = {name: to_parquet(_table(name, parts)) for name, parts in self._rows.items()}
        shas = {name: hashlib.sha256(data).hexdigest() for name, data in files.items()}
        folder = hashlib.sha256(json.dumps(shas, sort_keys=True).encode()).hexdigest()[:16]
        keys = {name: f"{_FOLDER}/{folder}/{name}.parquet" for name in files}
        for name, data in files.items():
            store.write(keys[name], data)
        index = {
            "form": _FORM,
            "files": {name: (keys[name], shas[name]) for name in files},
            "parts": sorted(self._keys),
        }
        store.write(_INDEX, json.dumps(index, indent=1).encode())
        for name in store.names(_FOLDER):
            if name not in (folder, _INDEX_NAME):
                store.delete(f"{_FOLDER}/{name}")
        self._is_changed = False


def _schema(table: str) -> pa.Schema:
    fields = [field for field in SCHEMAS[table] if field.name not in _NAMES]
    return pa.schema([pa.field(_KEY, pa.string()), *fields])


def _table(name: str, parts: Mapping[str, Sequence[Row]]) -> pa.Table:
    schema = _schema(name)
    rows = [{_KEY: key, **row} for key in sorted(parts) for row in parts[key]]
    columns = [pa.array([row.get(c) for row in rows], schema.field(c).type) for c in schema.names]
    return pa.Table.from_arrays(columns, schema=schema)


def _read(store: Store, key: str, sha: str) -> dict[str, list[Row]]:
    data = store.read(key)
    if hashlib.sha256(data).hexdigest() != sha:
        raise ValueError("damaged")
    found: dict[str, list[Row]] = {}
    for row in rows_of(read_parquet(pa.BufferReader(data))):
        found.setdefault(row.pop(_KEY), []).append(row)
    return found
