"""What trials have in common, prepared once: where it is kept, and the tokenised data.

Model: what is prepared is kept under a fingerprint of all that it is made from. Tokenised data is
made from examples, the tokenizer's files, its chat template and trl's options, and kept in this
node's scratch space beside the counts of what was cut;
`raylab.train.reference_logprobs` keeps what DPO's reference says in the store, for every node.
Invariant: an adapter has the same bits whether what it needs was found or made; what is kept
appears under its name complete or not at all; preparing moves no random state.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from datasets import Dataset, load_from_disk
from filelock import FileLock

from raylab.errors import DataError
from raylab.plan.trials import Trial
from raylab.spec.identity import fingerprint
from raylab.store.filesystem import PREPARED, Store, study_scratch
from raylab.train.attempts import versions
from raylab.train.base_checkpoint import Family
from raylab.train.chat import Counted, count
from raylab.train.random_state import preserved_random_state

FORMAT = 1
_COUNTED = "counted.json"
_TOKENIZER = (
    "tokenizer*",
    "chat_template*",
    "*.jinja",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab*",
    "merges.txt",
    "*.model",
    "*.py",
)
_OPTIONS = (
    "max_length",
    "truncation_mode",
    "completion_only_loss",
    "packing",
    "packing_strategy",
    "shuffle_dataset",
)


@dataclass(frozen=True)
class Prepared:
    """Where a trial keeps what it shares with others; `start` stands for what it starts from."""

    store: Store
    start: Mapping[str, Any]

    @contextmanager
    def alone(self, key: str) -> Iterator[Path]:
        """Hold this node's lock on `key`, which the system lifts if its holder dies."""
        place = study_scratch(self.store) / PREPARED / key
        place.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{place}.lock"):
            yield place


def prepared_of(trial: Trial, family: Family) -> Prepared:
    """What `trial` may share; its start is named by identity, its ancestors by content too.

    An ancestor that was lost and trained again elsewhere has the same id, but not the same bits.
    """
    start = {key: value for key, value in trial.identity.items() if _is_of_start(key)}
    lineage = [family.adapter(family.trials[name]) for name in trial.lineage]
    start["adapters"] = [_digest(path / "adapter_model.safetensors") for path in lineage]
    return Prepared(family.store, start)


def _is_of_start(key: str) -> bool:
    return key in ("base_model", "parent", "chain") or key.startswith("quantization.")


def tokenised(
    dataset: Dataset,
    tokenizer: Any,
    options: Any,
    make: Callable[[], Dataset],
    prepared: Prepared | None,
) -> tuple[Dataset, Counted]:
    """What `make` gives for `dataset`, without the columns that it is made from, and what fits.

    Raises DataError where nothing is left.
    """
    if prepared is None:
        made = _made(dataset, make)
        return made, _counted(dataset, made, tokenizer, options)
    with prepared.alone(_key(dataset, tokenizer, options)) as place:
        if not place.is_dir():
            made = _made(dataset, make)
            _keep(made, _counted(dataset, made, tokenizer, options), place)
        counted = json.loads((place / _COUNTED).read_text())
        return load_from_disk(str(place)), Counted(**counted)


def _counted(dataset: Dataset, made: Dataset, tokenizer: Any, options: Any) -> Counted:
    found = count(dataset, tokenizer, options.max_length)
    assert found.examples == len(made), f"{found} of {len(made)} that trl kept"
    return found


def _made(dataset: Dataset, make: Callable[[], Dataset]) -> Dataset:
    with preserved_random_state():
        made = make()
    if not len(made):
        raise DataError(
            "no example is short enough to train on",
            found=f"{len(dataset)}, each with a prompt as long as max_length",
            expected="prompts that leave room for an answer",
            todo="raise `max_length`",
        )
    return made.remove_columns([name for name in dataset.column_names if name in made.column_names])


def _keep(dataset: Dataset, counted: Counted, place: Path) -> None:
    with tempfile.TemporaryDirectory(dir=place.parent) as scratch:
        whole = Path(scratch) / "data"
        dataset.save_to_disk(str(whole))
        (whole / _COUNTED).write_text(json.dumps(asdict(counted)))
        whole.rename(place)


def _key(dataset: Dataset, tokenizer: Any, options: Any) -> str:
    return fingerprint(
        {
            "format": FORMAT,
            "examples": dataset.to_list(),
            "tokenizer": _files(Path(tokenizer.name_or_path)),
            "template": tokenizer.chat_template,
            "class": type(tokenizer).__name__,
            "versions": versions(),
            **{name: getattr(options, name, None) for name in _OPTIONS},
        }
    )


def _files(directory: Path) -> dict[str, str]:
    found = {path for pattern in _TOKENIZER for path in directory.glob(pattern) if path.is_file()}
    assert found, f"{directory} holds no tokenizer"
    return {path.name: _digest(path) for path in found}


def _digest(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
