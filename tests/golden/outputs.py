"""The files that raylab writes, as plain values that two recordings can be compared by.

VARYING and FILE_NAMES list the values that may differ between two runs of the same code, and
nothing else does. A varying value is replaced and its name is kept, so that a lost column is seen.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pyarrow import parquet

VARIES = "(varies)"
VARYING = frozenset({
    # how long it took, and when
    "seconds", "first_step_seconds", "tokens_per_second", "seconds_left", "heard_seconds",
    "started", "train_runtime", "train_samples_per_second", "train_steps_per_second",
    "eval_runtime", "eval_samples_per_second", "eval_steps_per_second",
    # where it ran, and how often it was tried
    "node", "gpus", "log", "attempts",
    # memory and traffic
    "peak_memory_bytes", "memory_bytes", "bytes_read",
    # a record's size and SHA-256 of a file that holds such values; its rows are recorded instead
    "history.parquet",
})  # fmt: skip
"""Columns of tables and keys of JSON documents whose value may differ from run to run."""

FILE_NAMES = (
    (re.compile(r"\d{4}-\d\d-\d\d_\d\d-\d\d-\d\d"), "TIME"),
    (re.compile(r"(?<=tfevents\.)\d+\..+"), "TIME.HOST"),
)
"""Parts of file names that Ray and TensorBoard make from the time and the machine."""

ROW_KEYS: Mapping[str, Sequence[str]] = {
    "trials": ("name", "trial_id"),
    "attempts": ("name", "trial_id", "attempt"),
    "norms": ("comparison", "view", "level", "key"),
    "densities": ("comparison", "view", "density"),
    "curve": ("comparison", "view", "density"),
    "pairs": ("a", "b", "view", "level", "key", "density"),
    "kept_by": ("model", "group", "name", "view", "level", "key", "density"),
    "kept_of": ("merge", "parent", "view", "level", "key", "density"),
    "phi": ("a", "b", "view", "level", "key", "side"),
    "subspaces": ("a", "b", "view", "level", "key", "energy", "side"),
    "spectra": ("model", "tensor"),
    "intruders": ("model", "level", "key"),
    "chains": ("model", "level", "key"),
    "audit": ("model", "level", "key"),
    "samples": ("name", "prompt", "draw"),
    "rates": ("name", "answers"),
    "rates_by_data": ("name", "data", "answers"),
    "likelihoods": ("name", "data"),
    "paths": ("name", "step", "layer"),
    "functions": ("a", "b", "data", "answers"),
    "cka": ("a", "b", "data", "layer"),
    "differing_tokens": ("comparison", "data", "answers", "prompt", "position"),
    "comparisons": ("comparison",),
    "history": ("step",),
}
"""The columns that name a row. Rows of another table are named by their number."""


class Outputs:
    """Reads outputs below one folder, whose own address is replaced by a word."""

    def __init__(self, places: Mapping[str, str]) -> None:
        """places: the word that stands for each address."""
        self._places = places

    def plain(self, value: Any) -> Any:
        """`value` without what varies: of a JSON document or of the rows of a table."""
        if isinstance(value, Mapping):
            return {
                key: VARIES if key in VARYING else self.plain(item) for key, item in value.items()
            }
        if isinstance(value, list):
            return [self.plain(item) for item in value]
        return self.text(value) if isinstance(value, str) else value

    def text(self, text: str) -> str:
        """`text` with a word for every address of this recording."""
        for address, word in self._places.items():
            text = text.replace(address, word)
        return text

    def json(self, file: Path) -> Any:
        """A JSON document."""
        return self.plain(json.loads(file.read_text(encoding="utf-8")))

    def tables(self, folder: Path) -> dict[str, Any]:
        """Every Parquet table of a folder by its name."""
        return {file.stem: self._table(file) for file in sorted(folder.glob("*.parquet"))}

    def _table(self, file: Path) -> dict[str, Any]:
        """Columns with their types, rows by their key, and the order of the rows."""
        table = parquet.read_table(file)
        rows = {}
        for number, row in enumerate(self.plain(table.to_pylist())):
            columns = [name for name in ROW_KEYS.get(file.stem, ()) if name in row]
            key = " | ".join(str(row[name]) for name in columns) or f"row {number}"
            rows[key if key not in rows else f"{key} | row {number}"] = row
        return {
            "columns": {field.name: str(field.type) for field in table.schema},
            "order of rows": _short_hash("\n".join(rows).encode()),
            "rows": dict(sorted(rows.items())),
        }


def file_names(folder: Path) -> list[str]:
    """Every file below a folder, without the parts of names that vary."""
    names = [file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file()]
    for pattern, word in FILE_NAMES:
        names = [pattern.sub(word, name) for name in names]
    return sorted(names)


def weights(folder: Path) -> dict[str, Any]:
    """SHA-256 of every safetensors file of a folder, and of each tensor in it.

    Where the file differs and no tensor does, the difference is in the file's header.
    """
    files = sorted(folder.glob("*.safetensors"))
    return {
        file.name: {"sha256": hashlib.sha256(file.read_bytes()).hexdigest(), **_tensors(file)}
        for file in files
    }


def _tensors(file: Path) -> dict[str, str]:
    """dtype, shape and SHA-256 of each tensor, read by the format's own definition."""
    data = file.read_bytes()
    start = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:start])
    header.pop("__metadata__", None)
    return {
        name: f"{entry['dtype']} {entry['shape']} {_short_hash(data[start + low : start + high])}"
        for name, entry in sorted(header.items())
        for low, high in [entry["data_offsets"]]
    }


def _short_hash(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:16]
