"""A study with every table filled, for a report with every section and figure.

Model: each trial of `write_study` that is done is a random vector: the sum of a part of its
method, its data, its recipe and its own, on top of its parent's; norms, cosines, curves, spectra,
chains and the audit are computed of these vectors as they are of task vectors.
Invariant: the same vectors each time, for every part is drawn by its name.
"""

from __future__ import annotations

import itertools
import zlib
from collections.abc import Iterator

import numpy as np

from raylab.store.filesystem import Store
from raylab.store.tables import write_table
from raylab.weights.names import levels
from tests.oracles.directions import against_base
from tests.report import whole_predictions
from tests.report.conftest import MODEL, MODULES, PAIRS, RECIPES, Rows, name_of, write_study

LAYERS = 12
_RANK, _COLUMNS = 6, 8
_ENTRIES = _RANK * _COLUMNS
TENSORS = [f"model.layers.{n}.{module}.weight" for n in range(LAYERS) for module in MODULES]
PLACES = [(level, key, [TENSORS.index(name) for name in names])
          for level, key, names in levels(TENSORS)]  # fmt: skip
_HEAD = {"view": "delta", "universe": "compared"}
_DENSITY = 0.1


def write_whole_study(store: Store) -> dict[str, Rows]:
    """Write all tables, and return them."""
    tables = write_study(store)
    trials = tables["trials"]
    parts = {row["name"]: _own_part(row) for row in trials if row["status"] == "done"}
    vectors: dict[str, np.ndarray] = {}
    for row in trials:
        if row["name"] in parts:
            parent = vectors.get(row["parent"] or "", 0.0)
            vectors[row["name"]] = parts[row["name"]] + parent
            row |= {"l1": _l1(vectors[row["name"]]), "l2": _l2(vectors[row["name"]])}
    differences = dict(_differences(vectors))
    parents = {row["name"]: row["parent"] for row in trials if row["parent"] in vectors}
    between = [(a, b) for a, b in differences if b in vectors]
    tables |= {
        "norms": [row for sides, x in differences.items() for row in _norms(*sides, x)],
        "densities": [row for sides, x in differences.items() for row in _densities(*sides, x)],
        "curve": [row for sides, x in differences.items() for row in _curve(*sides, x)],
        "pairs": [
            row for pair in itertools.combinations(vectors, 2) for row in _pair(vectors, *pair)
        ],
        "spectra": [row for name, x in vectors.items() for row in _spectra(name, x)],
        "intruders": [_intruders(name, x) for name, x in vectors.items()],
        "chains": [_chain(n, vectors[p], parts[n]) for n, p in parents.items() if n in parts],
        "audit": [_audit(name, x) for name, x in vectors.items()],
        "likelihoods": list(_likelihoods(list(vectors))),
        "paths": [row for name, x in parts.items() for row in _path(name, x)],
        "subspaces": list(whole_predictions.subspaces(vectors)),
        "functions": list(whole_predictions.functions(vectors)),
        "cka": list(whole_predictions.cka(vectors)),
        "differing_tokens": list(whole_predictions.differing_tokens(vectors, between)),
        "connectivity": list(whole_predictions.connectivity(MODEL, vectors, between)),
    }
    for name, rows in tables.items():
        write_table(store, name, rows)
    return tables


def _drawn(*names: object) -> np.ndarray:
    """Normal entries (tensors, entries) of a name, larger in later layers."""
    chance = np.random.default_rng(zlib.crc32("/".join(map(str, names)).encode()))
    growth = np.repeat(np.linspace(0.5, 1.5, LAYERS), len(MODULES))[:, None]
    return chance.standard_normal((len(TENSORS), _ENTRIES)) * growth * 1e-3


def _own_part(row: dict) -> np.ndarray:
    part = 2 * _drawn(row["method"]) + _drawn(row["data"]) + _drawn(row["recipe"])
    own = _drawn(row["name"])
    return (part + own) * (5 if row["learning_rate"] > 5e-5 else 1)


def _differences(vectors: dict[str, np.ndarray]) -> Iterator[tuple[tuple[str, str], np.ndarray]]:
    """Each model against its base, data pairs, and a recipe's two seeds."""
    yield from (((name, MODEL), x) for name, x in vectors.items())
    pairs = [
        (name_of(RECIPES[a][0], s), name_of(RECIPES[b][0], s)) for a, b in PAIRS for s in (42, 100)
    ]
    pairs += [(name_of(recipe[0], 42), name_of(recipe[0], 100)) for recipe in RECIPES]
    yield from (
        ((a, b), vectors[a] - vectors[b]) for a, b in pairs if a in vectors and b in vectors
    )


def _l1(x: np.ndarray) -> float:
    return float(np.abs(x).sum())


def _l2(x: np.ndarray) -> float:
    return float(np.linalg.norm(x))


def _cosine(x: np.ndarray, y: np.ndarray) -> float:
    return float((x * y).sum() / _l2(x) / _l2(y))


def _norms(a: str, b: str, x: np.ndarray) -> Iterator[dict]:
    weights = _drawn("base") * 100
    for level, key, tensors in PLACES:
        found = x[tensors]
        yield {
            "comparison": f"{a}~{b}", "a": a, "b": b, **_HEAD, "level": level, "key": key,
            "numel": found.size, "nonzero": found.size, "l1": _l1(found), "l2": _l2(found),
            "linf": float(np.abs(found).max()), "relative_l2": _l2(found) / _l2(weights[tensors]),
        }  # fmt: skip


def _shares(x: np.ndarray, density: float) -> tuple[int, dict[str, float]]:
    """The number of entries that a density keeps, and their shares of both norms."""
    entries = np.sort(np.abs(x).ravel())[::-1]
    kept = max(1, int(density * entries.size))
    held = {"l1": _l1(entries[:kept]), "l2": _l2(entries[:kept])}
    return kept, {**held, "l1_share": held["l1"] / _l1(x), "l2_share": held["l2"] / _l2(x)}


def _densities(a: str, b: str, x: np.ndarray) -> Iterator[dict]:
    for density in (0.1, 0.2, 0.5, 1.0):
        kept, shares = _shares(x, density)
        threshold = float(np.sort(np.abs(x).ravel())[-kept])
        head = {"comparison": f"{a}~{b}", **_HEAD, "density": density, "num_keep": kept}
        yield {**head, "threshold": threshold, "at_or_above": kept, **shares}


def _curve(a: str, b: str, x: np.ndarray) -> Iterator[dict]:
    for density in np.geomspace(1e-4, 1, 64):
        _, shares = _shares(x, density)
        held = {name: shares[name] for name in ("l1_share", "l2_share")}
        yield {"comparison": f"{a}~{b}", **_HEAD, "density": float(density), **held}


def _pair(vectors: dict[str, np.ndarray], a: str, b: str) -> Iterator[dict]:
    for level, key, tensors in PLACES:
        if level == "tensor":
            continue
        x, y = vectors[a][tensors], vectors[b][tensors]
        masks = [np.abs(v) >= np.quantile(np.abs(v), 1 - _DENSITY) for v in (x, y)]
        agree = float((np.sign(x) == np.sign(y)).mean())
        yield {
            "a": a, "b": b, **_HEAD, "level": level, "key": key, "numel": x.size,
            "cosine": _cosine(x, y), "sign_agreement": agree, "sign_conflict": 1 - agree,
            "density": _DENSITY, "overlap": float((masks[0] & masks[1]).sum() / masks[0].sum()),
            "overlap_by_chance": _DENSITY,
        }  # fmt: skip


def _spectra(name: str, x: np.ndarray) -> Iterator[dict]:
    for tensor, entries in list(zip(TENSORS, x, strict=True))[: len(MODULES)]:
        values = np.linalg.svd(entries.reshape(_RANK, _COLUMNS), compute_uv=False)
        shares = values / values.sum()
        yield {
            "model": name, "tensor": tensor, "rank": _RANK, "singular_values": values.tolist(),
            "shares": shares.tolist(),
            "effective_rank": float(np.exp(-(shares * np.log(shares)).sum())),
        }  # fmt: skip


def _intruders(name: str, x: np.ndarray) -> dict:
    """All tensors of a model against the base's, of which the top two directions count."""
    shape, top = (-1, _RANK, _COLUMNS), 2
    pairs = zip((_drawn("base") * 5).reshape(shape), x.reshape(shape), strict=True)
    found = [against_base(weight, delta, top, 0.5) for weight, delta in pairs]
    sums = {key: sum(part[key] for part in found) for key in found[0]}
    return {
        "model": name, "level": "all", "key": "all", "tensors": len(found), "top": top,
        "epsilon": 0.5, "directions": sums["directions"], "intruders": sums["intruders"],
        "intruder_share": sums["intruders"] / sums["directions"],
        "share_left": sums["left"] / sums["energy"], "chance_left": top / _RANK,
        "share_right": sums["right"] / sums["energy"], "chance_right": top / _COLUMNS,
    }  # fmt: skip


def _chain(name: str, parent: np.ndarray, child: np.ndarray) -> dict:
    lengths = {"l2_parent": _l2(parent), "l2_child": _l2(child), "l2": _l2(parent + child)}
    lost = 1 - lengths["l2"] / (lengths["l2_parent"] + lengths["l2_child"])
    head = {"model": name, "level": "all", "key": "all"}
    return {**head, **lengths, "cosine": _cosine(parent, child), "cancellation": lost}


def _audit(name: str, x: np.ndarray) -> dict:
    """What rounding of base + delta to float16, and to a coarse grid, leaves of the delta."""
    base = _drawn("base") * 100
    start = base.astype(np.float16).astype(np.float64)
    merged = (start + x).astype(np.float16).astype(np.float64) - start
    grid = np.abs(base).max() / 8
    coarse = np.round((base + x) / grid) * grid - np.round(base / grid) * grid
    errors = {
        f"{kind}_{what}": value
        for kind, left in (("merged", merged), ("dequantized", coarse))
        for what, value in (
            ("error", _l2(left - x) / _l2(x)),
            ("false_zeros", float((left == 0).mean())),
        )
    }
    head = {"model": name, "level": "all", "key": "all", "numel": x.size, "l2": _l2(x)}
    return {**head, **errors, "quantization_noise": _l2(np.round(base / grid) * grid - base)}


def _path(name: str, x: np.ndarray) -> Iterator[dict]:
    """A way to `x` that slows down, by layer; a sketch is the first entries of a layer."""
    layers = x.reshape(LAYERS, -1)
    before = np.zeros_like(layers)
    for step in range(0, 50, 10):
        position = layers * (1 - (1 - step / 40) ** 2)
        for layer in range(LAYERS):
            yield {
                "trial_id": "0" * 16,
                "name": name,
                "step": step,
                "layer": f"model.layers.{layer}",
                "norm": _l2(position[layer]),
                "step_norm": _l2(position[layer] - before[layer]) if step else None,
                "sketch": position[layer][:16].tolist(),
            }
        before = position


def _likelihoods(names: list[str]) -> Iterator[dict]:
    for place, (name, data) in enumerate(itertools.product(names, ("D0", "D1"))):
        value = -1.0 - zlib.crc32(f"{name}/{data}".encode()) / 2**32
        head = {"trial_id": f"{place:016x}", "name": name, "data": data, "answers": 32}
        yield {**head, "tokens": 640, "log_probability": value}
