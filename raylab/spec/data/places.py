"""Where the records of a data set lie: in a file, in a directory, in a saved folder, on a hub.

Model: a directory is its files in the order of their names, all of one kind, or what
`save_to_disk` of `datasets` wrote: Arrow files, in a folder for each split. Hub data sets are read
by `datasets`.
Invariant: the place of a record is the number of its row from 1, behind the file's name where a
directory is read; what a study says about a place is used or refused.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from raylab.errors import DataError
from raylab.spec.data.readers import READERS, Found, Problem, Record, kind_of, read_file
from raylab.spec.sources import DataSet

_SPLITS = ("train", "test", "valid", "dev", "eval")
_NO_DATA = (".", "_", "README", "LICENSE", "readme", "license")
"""How the names of files begin that hold no rows."""
_ABOUT = ("dataset_info.json", "dataset_infos.json")
"""What `datasets` writes about the rows beside it."""
SPLIT = "train"
"""The split of a data set that names none."""


def read_records(name: str, data: DataSet) -> tuple[list[Record], list[Problem]]:
    """All rows of the data set `name`, and everything that could not be read of it."""
    place = str(data.hub or data.path)
    found = list(_read_hub(name, data) if data.hub else _read_path(Path(place), data.split))
    records = [item for item in found if isinstance(item, Record)]
    problems = [item for item in found if isinstance(item, Problem)]
    if not found:
        problems = [Problem("it is empty")]
    return records, problems


def _read_path(path: Path, split: str) -> Found:
    if (path / "dataset_dict.json").is_file():
        yield from _read_saved_splits(path, split)
    elif (path / "state.json").is_file():
        yield from _read_saved(path, split)
    elif split != SPLIT:
        yield Problem(
            f"it has no splits, so `split: {split}` says nothing; splits belong to a `hub` id and "
            "to a folder that `save_to_disk` wrote"
        )
    elif path.is_dir():
        yield from _read_directory(path)
    else:
        yield from read_file(path)


def _read_directory(path: Path) -> Found:
    files = [file for file in sorted(path.iterdir()) if _holds_rows(file)]
    kinds = sorted({kind_of(file) for file in files})
    if len(kinds) != 1:
        folders = sorted(folder.name for folder in path.iterdir() if folder.is_dir())
        inside = f" (but the folders {', '.join(folders[:5])})" if folders else ""
        found = f"files of {', '.join(kinds)}" if kinds else f"no file of a known kind{inside}"
        yield Problem(f"the directory holds {found}; expected one kind of {', '.join(READERS)}")
        return
    for file in files:
        for item in read_file(file):
            yield item._replace(place=f"{file.name}:{item.place}" if item.place else file.name)


def _holds_rows(file: Path) -> bool:
    """Whether a file of a directory is read; a hidden one is what a file system keeps of one."""
    return kind_of(file) in READERS and file.name not in _ABOUT and not file.name.startswith(".")


def beside(data: DataSet) -> list[str]:
    """What a directory holds beside the rows of one split: for warnings."""
    path = Path(str(data.path))
    is_saved = any((path / name).is_file() for name in ("dataset_dict.json", "state.json"))
    if data.path is None or not path.is_dir() or is_saved:
        return []
    files = sorted(file for file in path.iterdir() if file.is_file())
    read = [file.name for file in files if _holds_rows(file)]
    splits = {name for file in read for name in _SPLITS if file.lower().startswith(name)}
    others = [
        file.name
        for file in files
        if file.name not in (*read, *_ABOUT)
        and (kind_of(file) in READERS or not file.name.startswith(_NO_DATA))
    ]
    found = {
        "the directory holds files of several splits, and all of them are read": read
        if len(splits) > 1 else [],
        "files of the directory that are not read": others,
    }  # fmt: skip
    return [f"{what}: {', '.join(names[:5])}{', ...' * (len(names) > 5)}"
            for what, names in found.items() if names]  # fmt: skip


def _read_saved_splits(path: Path, split: str) -> Found:
    """One split of a saved DatasetDict."""
    splits = _saved(path / "dataset_dict.json").get("splits", [])
    if split not in splits:
        yield Problem(
            f"the folder has the splits {', '.join(splits)}, and not {split!r}; name one with "
            "`split:`"
        )
        return
    yield from _read_saved(path / split, SPLIT)


def _read_saved(path: Path, split: str) -> Found:
    """A saved Dataset: the Arrow files that its state names, and the columns that it shows."""
    state = _saved(path / "state.json")
    files = [str(file.get("filename")) for file in state.get("_data_files", [])]
    own = state.get("_split") or SPLIT
    if split not in (own, SPLIT):
        yield Problem(f"the folder is of the split {own!r}, and not {split!r}")
    elif not files or state.get("_indices_data_files"):
        yield Problem("the folder names no rows that can be read; save it again with `datasets`")
    else:
        found = [item for file in files for item in read_file(path / file)]
        yield from (item for item in found if isinstance(item, Problem))
        rows = (item.values for item in found if isinstance(item, Record))
        shown = state.get("_format_columns")
        for number, values in enumerate(rows, 1):
            columns = values if shown is None else {name: values[name] for name in shown}
            yield Record(str(number), columns)


def _saved(path: Path) -> Mapping[str, Any]:
    """What `save_to_disk` wrote beside its tables; empty: it is no such file."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


_HUB_SAYS = {
    "Config name is missing": "name one of these with `config:`",
    "BuilderConfig": "name one of these with `config:`",
    "Unknown split": "name one of these with `split:`",
}
"""What `datasets` says where a field of the study is missing or wrong, and what helps."""


def _read_hub(name: str, data: DataSet) -> Found:
    import datasets

    files = list(data.data_files) if isinstance(data.data_files, tuple) else data.data_files
    try:
        rows = datasets.load_dataset(
            data.hub, data.config, revision=data.revision, split=data.split, data_files=files
        )
    except Exception as error:
        says = " ".join(f"{type(error).__name__}: {error}".split())
        raise DataError(
            f"data set {name} cannot be loaded from the hub",
            found=f"{data.hub}: {says}",
            expected=f"a data set with the split {data.split!r}"
            + (f" in the config {data.config!r}" if data.config else ""),
            todo=next(
                (help_ for said, help_ in _HUB_SAYS.items() if said in says),
                "check the id, the network, and HF_TOKEN for a gated one",
            ),
        ) from error
    for number, values in enumerate(rows, 1):
        yield Record(str(number), dict(values))
