"""The cache of what trials share, and in it the tokenised data.

Model: an entry lies under a fingerprint of everything that it is made from. Tokenised data is made
from examples, the tokenizer's files, its chat template and trl's options. It lies in this node's
scratch space, beside the counts of the examples that were cut. The log-probabilities of DPO's
reference (`raylab.train.reference_logprobs`) lie in the store, for every node.
Invariant: an adapter has the same bits whether an entry was found or made. An entry appears under
its name complete or not at all. Making one moves no random state.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from datasets import Dataset, load_from_disk
from filelock import FileLock
from jinja2 import TemplateError

from raylab.errors import DataError
from raylab.plan.trials import Trial
from raylab.spec.identity import fingerprint
from raylab.store.filesystem import PREPARED, Store, study_scratch
from raylab.train.attempts import versions
from raylab.train.base_checkpoint import StudyAdapters
from raylab.train.chat import ExampleCounts, count_examples
from raylab.train.random_state import preserved_random_state
from raylab.weights.file_digests import sha256_of

FORMAT = 1
_COUNTS = "counted.json"
_TOKENIZER_FILES = (
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
class TrialCache:
    """The cache of one trial; `start` identifies the model that it starts from."""

    store: Store
    start: Mapping[str, Any]

    @contextmanager
    def locked(self, key: str) -> Iterator[Path]:
        """Hold this node's lock on `key`; the system releases it if its holder dies."""
        place = study_scratch(self.store) / PREPARED / key
        place.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{place}.lock"):
            yield place


def cache_of(trial: Trial, adapters: StudyAdapters) -> TrialCache:
    """The cache of `trial`, whose start is identified by its ids and by its ancestors' content.

    An ancestor that was lost and trained again elsewhere has the same id, but not the same bits.
    """
    start = {
        key: value
        for key, value in trial.identity.items()
        if key in ("base_model", "parent", "chain") or key.startswith("quantization.")
    }
    lineage = adapters.lineage(trial)
    start["adapters"] = [sha256_of(path / "adapter_model.safetensors") for path in lineage]
    return TrialCache(adapters.store, start)


def tokenised(
    dataset: Dataset,
    tokenizer: Any,
    options: Any,
    make: Callable[[], Dataset],
    cache: TrialCache | None,
    count: Callable[[], ExampleCounts] | None = None,
) -> tuple[Dataset, ExampleCounts]:
    """The columns that `make` adds to `dataset`, out of the cache where they are there.

    count: counts the examples that fit; none: they are prompts with answers. Raises DataError
    where no example is left, or one cannot be framed.
    """
    count = count or partial(_count, dataset, tokenizer, options)
    if cache is None:
        return _make(dataset, make, count)
    with cache.locked(_key(dataset, tokenizer, options)) as place:
        if not place.is_dir():
            made, counts = _make(dataset, make, count)
            with tempfile.TemporaryDirectory(dir=place.parent) as scratch:
                whole = Path(scratch) / "data"
                made.save_to_disk(str(whole))
                (whole / _COUNTS).write_text(json.dumps(asdict(counts)))
                whole.rename(place)
        counts = ExampleCounts(**json.loads((place / _COUNTS).read_text()))
        return load_from_disk(str(place)), counts


def _count(dataset: Dataset, tokenizer: Any, options: Any) -> ExampleCounts:
    return count_examples(dataset, tokenizer, options.max_length)


def _make(
    dataset: Dataset, make: Callable[[], Dataset], count: Callable[[], ExampleCounts]
) -> tuple[Dataset, ExampleCounts]:
    with preserved_random_state():
        try:
            made = make()
        except TemplateError:
            count()  # Names the row.
            raise
    if not len(made):
        raise DataError(
            "no example of the training rows, or of the held-out rows, is short enough",
            found=f"{len(dataset)}, each with a prompt as long as max_length",
            expected="prompts that leave room for an answer",
            todo="raise `max_length`",
        )
    counts = count()
    assert counts.examples == len(made), f"{counts}, but trl kept {len(made)}"
    source = [name for name in dataset.column_names if name in made.column_names]
    return made.remove_columns(source), counts


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
    found = {
        path for pattern in _TOKENIZER_FILES for path in directory.glob(pattern) if path.is_file()
    }
    assert found, f"{directory} holds no tokenizer"
    return {path.name: sha256_of(path) for path in found}
