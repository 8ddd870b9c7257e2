"""Results of shards, kept in the store until the reduction they belong to is done.

Model: a call's key is the fingerprint of the job's id, its models and options, the method, its
form and its arguments. The result is packed into bytes: a SHA-256, then arrays as
npz and everything else as JSON. A reduction that was killed asks for the same keys again, and
only the missing results are computed.
Invariant: nothing is unpickled; a part that is damaged, or that another version of raylab packed
in another way, counts as missing. A kept result has the bits of a computed one.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import fields, is_dataclass
from typing import Any

import numpy as np

from raylab.reduce.audit import AuditSums
from raylab.reduce.chains import ChainSums
from raylab.reduce.histogram import Extremes, Interval, Magnitudes, Norms
from raylab.reduce.intruders import BaseSums
from raylab.reduce.job import Call, Executor, Job
from raylab.reduce.masks import Masks
from raylab.reduce.measured import Measured
from raylab.reduce.model_details import Details
from raylab.reduce.pairwise import Relation
from raylab.reduce.products import Products
from raylab.reduce.subspaces import TensorSubspaces
from raylab.store.filesystem import REDUCE, Store

_KINDS = (
    AuditSums,
    BaseSums,
    ChainSums,
    Details,
    Extremes,
    Interval,
    Magnitudes,
    Masks,
    Measured,
    Norms,
    Products,
    Relation,
    TensorSubspaces,
)
_PACKED = {kind.__name__: kind for kind in _KINDS}
_DIGEST_BYTES = 32
_FORM = 7
"""To be raised when a method gives something else than it did for the same arguments."""


def pack(value: Any) -> bytes:
    """A result of a shard as bytes."""
    arrays: list[np.ndarray] = []
    text = json.dumps(_plain(value, arrays)).encode()
    buffer = io.BytesIO()
    named = {f"a{index}": array for index, array in enumerate(arrays)}
    np.savez_compressed(buffer, text=np.frombuffer(text, dtype=np.uint8), **named)  # type: ignore[arg-type]
    return _digest(buffer.getvalue()) + buffer.getvalue()


def unpack(data: bytes) -> Any:
    """The result that was packed. Raises ValueError for damaged bytes."""
    digest, packed = data[:_DIGEST_BYTES], data[_DIGEST_BYTES:]
    if digest != _digest(packed):
        raise ValueError("damaged: the bytes are not those that were packed")
    with np.load(io.BytesIO(packed), allow_pickle=False) as arrays:
        try:
            return _rebuilt(json.loads(arrays["text"].tobytes()), arrays)
        except (KeyError, TypeError) as error:
            raise ValueError(f"damaged: packed by another version: {error}") from error


def _digest(packed: bytes) -> bytes:
    return hashlib.sha256(packed).digest()


def _plain(value: Any, arrays: list[np.ndarray]) -> Any:
    if isinstance(value, np.ndarray):
        arrays.append(value)
        return {"array": len(arrays) - 1}
    if is_dataclass(value) and not isinstance(value, type):
        parts = {f.name: _plain(getattr(value, f.name), arrays) for f in fields(value)}
        return {"kind": type(value).__name__, "parts": parts}
    if isinstance(value, dict):
        return {"items": [[key, _plain(item, arrays)] for key, item in value.items()]}
    if isinstance(value, (tuple, list)):
        return {type(value).__name__: [_plain(item, arrays) for item in value]}
    assert value is None or isinstance(value, (str, int, float)), f"cannot keep {type(value)}"
    return value


def _rebuilt(value: Any, arrays: Any) -> Any:
    if not isinstance(value, dict):
        return value
    if "array" in value:
        return arrays[f"a{value['array']}"]
    if "kind" in value:
        parts = {name: _rebuilt(part, arrays) for name, part in value["parts"].items()}
        return _PACKED[value["kind"]](**parts)
    if "items" in value:
        return {key: _rebuilt(item, arrays) for key, item in value["items"]}
    ((kind, items),) = value.items()
    return (tuple if kind == "tuple" else list)(_rebuilt(item, arrays) for item in items)


class CachingExecutor:
    """An executor that computes only what was not kept before."""

    def __init__(
        self,
        execute: Executor,
        load: Callable[[str], bytes | None],
        save: Callable[[str, bytes], None],
        key_of: Callable[[Any, Call], str] | None = None,
    ) -> None:
        """`load` and `save` take the key of a result; `execute` may give packed results. key_of:
        for jobs of another kind than Job."""
        self._execute, self._load, self._save = execute, load, save
        self._key_of = key_of or _key
        self.found = 0

    @classmethod
    def in_store(
        cls, store: Store, execute: Executor, key_of: Callable[[Any, Call], str] | None = None
    ) -> CachingExecutor:
        """`execute`, with its results kept in `store`."""

        def load(key: str) -> bytes | None:
            return store.read_if_there(f"{REDUCE}/{key}.npz")

        def save(key: str, data: bytes) -> None:
            store.write(f"{REDUCE}/{key}.npz", data)

        return cls(execute, load, save, key_of)

    def __call__(self, job: Job, calls: Sequence[Call]) -> Iterator[tuple[int, Any]]:
        """(index of the call, result), the kept ones first."""
        keys = [self._key_of(job, call) for call in calls]
        missing = []
        for index, key in enumerate(keys):
            known = self._known(key)
            if known is None:
                missing.append(index)
            else:
                self.found += 1
                yield index, known[0]
        if not missing:
            return
        for place, result in self._execute(job, [calls[index] for index in missing]):
            packed = result if isinstance(result, bytes) else pack(result)
            self._save(keys[missing[place]], packed)
            yield missing[place], unpack(packed) if packed is result else result

    def _known(self, key: str) -> tuple[Any] | None:
        data = self._load(key)
        if data is None:
            return None
        try:
            return (unpack(data),)
        except ValueError:
            return None


def _key(job: Job, call: Call) -> str:
    """The key of a result. The job's id cannot know which of the planned models are there."""
    assert job.id, "results are kept under the id of their job"
    pairs = [(p.name, p.a, p.b) for p in job.pairs]
    models = [
        sorted(job.places),
        job.vectors,
        None if job.fresh is None else sorted(job.fresh),
        pairs,
    ]
    ways = [job.view.name, str(job.quantization), job.count_untouched, job.skip_non_finite]
    ways += [job.tolerance, job.groups, job.kin, sorted(job.known)]
    asked = [_FORM, job.id, models, ways, call.method, call.arguments]
    text = json.dumps(asked, sort_keys=True, default=list)
    return hashlib.sha256(text.encode()).hexdigest()[:32]
