"""The difference of two models, as `raylab diff` prints it. In this process, with threads.

Model: the pair is accounted for, reduced as a study's comparison is, and the outcome put into
one document. With a base model its two task vectors are related as well.
Invariant: the document is the contract of `raylab diff --json`; its numbers have the bits
of the reduce stage for the same models, whatever else is asked.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

from raylab.errors import ModelError, NonFiniteError
from raylab.reduce.histogram import Norms
from raylab.reduce.job import InProcess, Job, OpenedModels, open_models
from raylab.reduce.pairwise import whole_relation
from raylab.reduce.passes import Reduced, reduce_job, reference_of
from raylab.reduce.row_block import Pair
from raylab.reduce.table_rows import curve_rows, density_rows, norm_rows, relative_l2, row_of
from raylab.spec.study import TOLERANCE, Device, ViewName
from raylab.store.filesystem import Store
from raylab.store.records import write_json
from raylab.store.references import FoundModel, ModelLocation
from raylab.weights.alignment import STRICT, EntryCounts, Tolerance, align, check_base
from raylab.weights.names import layer_of, levels, module_of
from raylab.weights.safetensors_reader import Shape
from raylab.weights.views import DELTA, View

PAIR = "a~b"


@dataclass(frozen=True)
class DiffRequest:
    """The models to subtract, and the options."""

    a: FoundModel
    b: FoundModel
    base: Path | None = None
    """The base model, where the two task vectors are asked for as well."""
    densities: Sequence[float] = (0.1, 0.2, 0.5, 1.0)
    view: View = DELTA
    universe: Literal["compared", "model"] = "compared"
    tolerance: Tolerance = STRICT
    threads: int = 1
    device: Device = "auto"
    moved_above: float = TOLERANCE
    """An entry whose magnitude is above it moved."""
    curve: bool = False
    """Whether the rows of the curve are asked for, which needs a histogram."""

    @property
    def weights(self) -> Path | None:
        """The base model's weights where they are at hand: given, or known to both models; a
        checkpoint may leave it to the other."""
        places = (self.a.location, self.b.location)
        known = {p.base for p in places if p.base or not p.checkpoint}
        return self.base or (known.pop() if len(known) == 1 else None)


def view_of(name: ViewName, a: FoundModel, b: FoundModel) -> View:
    """The view `name` of two models. Raises ModelError where it has to know how their base model
    was quantised, and does not, or it was in two ways."""
    if name != "dequantized":
        return View(name)
    known = {model.quantization for model in (a, b) if model.quantization}
    if len(known) != 1:
        raise ModelError(
            "--view dequantized needs to know how the base model was quantised",
            found="; ".join(sorted(map(str, known))) or "no settings",
            expected="a trial of a study (OUT#name), which knows it, or two that agree",
        )
    return View(name, known.pop())


@dataclass(frozen=True)
class Diff:
    """The document of `raylab diff --json`, and rows for the store's tables."""

    document: dict[str, Any]
    rows: dict[str, list[dict[str, Any]]]
    """By table: norms, densities, curve."""


def diff(request: DiffRequest) -> Diff:
    """Subtract two models. Raises ModelError."""
    started = time.perf_counter()
    request = _with_base_model(request)
    _check(request)
    places = {"a": request.a.location, "b": request.b.location}
    opened = open_models(places, request.view, request.weights)
    shapes, accounting = _accounted(request, opened)
    job = _job(request, shapes)
    execute = InProcess(job, opened)
    found = _reduced(request, job, execute)
    tensors = found.total.norms[PAIR]
    whole = sum(tensors.values(), Norms())
    lost = {name: math.prod(shape) - tensors[name].numel for name, shape in shapes.items()}
    left_out = sum(lost.values()), sum(lost[name] for name in opened[0]["a"].shapes if name in lost)
    assert left_out[0] == 0 or job.skip_non_finite, "entries were lost"
    squares = found.total.squares.get(reference_of(job, job.pairs[0]), {})
    document = {
        "a": request.a.name,
        "b": request.b.name,
        "view": request.view.name,
        "universe": request.universe,
        **_whole(whole, relative_l2(whole, list(tensors), squares), job.tolerance),
        "densities": [_density(kept) for kept in found.kept[PAIR]],
        "layers": _layers(found),
        **({"base": _base(job, found)} if request.base else {}),
        "accounting": accounting.without(*left_out).as_row(),
        "passes": found.passes,
        "device": execute.device,
        "seconds": time.perf_counter() - started,
        "bytes_read": found.total.bytes_read + found.bytes_read_again + _of_adapters(request),
    }
    return Diff(document, _rows(request, job, found))


def _of_adapters(request: DiffRequest) -> int:
    """Bytes of the adapters' files, which are read once and held."""
    places = (request.a.location, request.b.location)
    folders = [path for place in places for path in place.adapters]
    return sum(file.stat().st_size for f in folders for file in f.glob("*.safetensors"))


def _with_base_model(request: DiffRequest) -> DiffRequest:
    """The request, with a checkpoint that is the base model of the other side's adapters taken as
    that: its task vector is zero, so the entries compared are those that the adapters target, as
    in a study."""
    bases = [side.location.base for side in (request.a, request.b) if side.location.adapters]
    named = {base.resolve(): base for base in (*bases, request.base) if bases and base}
    sides = []
    for side in (request.a, request.b):
        own = side.location.checkpoint
        base = named.get(own.resolve()) if own else None
        sides.append(replace(side, location=ModelLocation(base=base)) if base else side)
    return replace(request, a=sides[0], b=sides[1])


def _check(request: DiffRequest) -> None:
    needs = {
        f"--view {request.view.name}": request.view != DELTA,
        "--universe model": request.universe == "model",
    }
    for option, needed in needs.items():
        if needed and request.weights is None:
            raise ModelError(
                f"{option} needs the base model's weights",
                expected="--base BASE, a checkpoint directory",
            )


def _accounted(request: DiffRequest, opened: OpenedModels) -> tuple[dict[str, Shape], EntryCounts]:
    """(the shapes that are compared, the account of all entries). Raises ModelError."""
    sides, base = opened
    a, b = sides["a"], sides["b"]
    shapes, accounting = align(a, b, request.tolerance, base, request.universe)
    if not shapes:
        raise ModelError(
            "nothing is left to compare",
            found=", ".join(f"{key} {count}" for key, count in accounting.as_row().items()),
            expected="tensors that both models have",
        )
    if request.base and base and a.checkpoint and b.checkpoint:
        check_base(shapes, base)
    return shapes, accounting


def _job(request: DiffRequest, shapes: Mapping[str, Shape]) -> Job:
    return Job(
        places={"a": request.a.location, "b": request.b.location},
        pairs=(Pair(PAIR, "a", "b"),),
        base=request.weights,
        view=request.view,
        shapes=shapes,
        threads=request.threads,
        device=request.device,
        vectors=("a", "b") if request.base else (),
        count_untouched=request.universe == "model",
        skip_non_finite=request.tolerance.non_finite == "skip",
        tolerance=request.moved_above,
    )


def _reduced(request: DiffRequest, job: Job, execute: InProcess) -> Reduced:
    """Reduce the pair, and the task vectors where asked. Raises ModelError."""
    try:
        return reduce_job(
            job, request.densities, execute, shards=1, masks=False, curve=request.curve
        )
    except NonFiniteError as error:
        raise ModelError(
            error.what,
            found=error.found,
            expected=error.expected,
            todo="`--non-finite skip` leaves such entries out, and counts them",
        ) from error


def _whole(norms: Norms, relative: float | None, tolerance: float) -> dict[str, Any]:
    row = row_of(norms)
    numel = row.pop("numel")
    return {"numel": numel, "norms": {**row, "relative_l2": relative, "tolerance": tolerance}}


def _density(kept: Any) -> dict[str, Any]:
    wanted = ("density", "num_keep", "threshold", "at_or_above", "l1", "l2")
    row = asdict(kept)
    return {key: row[key] for key in wanted}


def _layers(found: Reduced) -> list[dict[str, Any]]:
    """Norms by layer and module kind, in the order of the layers."""
    tensors = found.total.norms[PAIR]
    ordered = next(members for _, _, members in levels(tensors))
    groups: dict[tuple[str, str], Norms] = {}
    for name in ordered:
        key = (layer_of(name), module_of(name))
        groups[key] = groups.get(key, Norms()) + tensors[name]
    return [{"key": k, "module": module, **row_of(n)} for (k, module), n in groups.items()]


def _base(job: Job, found: Reduced) -> dict[str, Any]:
    """How the two task vectors relate."""
    assert found.relation is not None
    row = whole_relation(found.relation, 0, 1)
    norms = {
        key: sum(found.total.norms.get(name, {}).values(), Norms())
        for key, name in job.task_vectors.items()
    }
    return {
        "cosine": row["cosine"],
        "sign_agreement": row["sign_agreement"],
        "l2_a": norms["a"].l2,
        "l2_b": norms["b"].l2,
    }


def _rows(request: DiffRequest, job: Job, found: Reduced) -> dict[str, list[dict[str, Any]]]:
    """Rows of the tables norms, densities and curve, under the names that the user gave."""
    names = {"a": request.a.name, "b": request.b.name}
    named = {**names, "comparison": f"{names['a']}~{names['b']}"}
    (pair,) = job.pairs
    common = {"view": request.view.name, "universe": request.universe}
    rows = {
        "norms": norm_rows(pair, found.total, reference_of(job, pair), job.tolerance, common),
        "densities": density_rows(pair, found.kept[PAIR], common),
    }
    if request.curve:
        rows["curve"] = curve_rows(pair, found.total, common)
    return {
        table: [{**row, **{key: named[key] for key in named if key in row}} for row in made]
        for table, made in rows.items()
    }


def write_diff(found: Diff, store: Store) -> None:
    """Write the tables of one difference, then diff.json. Raises OutError or StoreError."""
    from raylab.store.tables import write_table  # It loads Arrow, which nothing else here needs.

    store.prepare()
    for name, rows in found.rows.items():
        write_table(store, name, rows)
    write_json(store, "diff.json", found.document)
