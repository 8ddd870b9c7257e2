"""One difference, whole: the document of `raylab diff --json` against oracles of its own."""

from __future__ import annotations

import json
import math
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from bitsandbytes.functional import dequantize_4bit, quantize_4bit
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from peft import PeftModel
from transformers import AutoModelForCausalLM

from raylab.errors import ModelError
from raylab.reduce import passes as reduction
from raylab.reduce import threshold_sampling as foresight
from raylab.reduce.diff import DiffRequest, diff, view_of, write_diff
from raylab.reduce.job import InProcess, Job
from raylab.reduce.row_block import BASE, Pair
from raylab.spec.study import Quantization
from raylab.store.filesystem import Store
from raylab.store.references import FoundModel, ModelLocation, find_model
from raylab.store.tables import read_table
from raylab.weights import Checkpoint, read_ahead
from raylab.weights.alignment import Tolerance
from raylab.weights.views import View
from tests.architectures import merged_by_peft, save_adapter, save_tiny
from tests.oracles import norms as exact
from tests.oracles import relations as oracle
from tests.reduce.arrays import arrays
from tests.reduce.models import (
    BIAS0,
    EMBED,
    HEAD,
    LINEAR,
    NORM,
    Q0,
    Q10,
    SHAPES,
    UP0,
    cut_tiles,
    deltas_of,
    on_gpu,
    random_factors,
    random_weights,
    write_adapter,
    write_checkpoint,
    write_store,
)

DENSITIES = (0.003, 0.29, 1.0)
KEYS = [
    "a", "b", "view", "universe", "numel", "norms", "densities", "layers", "accounting", "passes",
    "device", "seconds", "bytes_read",
]  # fmt: skip
SIZES = {name: math.prod(shape) for name, shape in SHAPES.items()}
ALL = sum(SIZES.values())


@pytest.fixture(autouse=True)
def small_tiles(monkeypatch):
    """Tiles of 23 rows of 24 columns, so that every matrix has several."""
    cut_tiles(monkeypatch, 24 * 23)


WAYS = ("foreseen", "misled", "curve", "larger than memory", "gpu", "gpu misled")


def go(monkeypatch, way):
    """Take one way to the numbers: sums of intervals that hold every threshold, intervals that
    hold none and have to be followed by histograms, histograms at once, rows that are read past the
    page cache, or what a GPU does. Gives options of a request."""
    if way == "larger than memory":
        monkeypatch.setattr(read_ahead, "_OF_MEMORY", 0)
    if way == "foreseen":
        for name in ("_OF_ALL", "_LEAST_EVERY", "_MOST_EVERY"):
            monkeypatch.setattr(foresight, name, 1)
        monkeypatch.setattr(foresight, "_DEVIATIONS", 0)
    if "gpu" in way:
        on_gpu(monkeypatch, 24 * 23)
    if "misled" in way:
        monkeypatch.setattr(reduction, "foresee", lambda *_: (0x3F80,))
    return {"curve": way == "curve"}


def found(path):
    return path if isinstance(path, FoundModel) else find_model(str(path))


def request(a, b, view="delta", **options):
    left, right = found(a), found(b)
    options = {"densities": DENSITIES, **options}
    return DiffRequest(left, right, view=view_of(view, left, right), **options)


def document(a, b, view="delta", **options):
    """The document, after it went through JSON, in which NaN has no place."""
    made = diff(request(a, b, view, **options)).document
    return json.loads(json.dumps(made, allow_nan=False))


def subtracted(a, b):
    return {n: a[n].float().numpy() - b[n].float().numpy() for n in a if n in b}


def norm_of(values, names):
    return math.sqrt(math.fsum((oracle.whole(values, names).astype(np.float64) ** 2).tolist()))


def root(squares):
    """The square root of an exact sum; its float64 may differ by a unit in the last place."""
    return pytest.approx(exact.root(squares), rel=2**-52, abs=0)


def assert_norms(row, values, tolerance=1e-5):
    flat = np.asarray(values, np.float32).ravel()
    assert row["l1"] == float(exact.l1(flat))
    assert row["l2"] == root(exact.squares(flat))
    assert row["linf"] == float(np.abs(flat).max(initial=0))
    assert row["nonzero"] == np.count_nonzero(flat)
    assert row["moved"] == np.count_nonzero(np.abs(flat.astype(np.float64)) > tolerance)


def assert_densities(rows, values, densities=DENSITIES):
    assert [row["density"] for row in rows] == list(densities)
    for row in rows:
        keep, limit, above, l1, squares = exact.at_density(values, row["density"])
        assert (row["num_keep"], row["threshold"]) == (keep, float(limit))
        assert (row["at_or_above"], row["l1"]) == (above, float(l1))
        assert row["l2"] == root(squares)
        assert set(row) == {"density", "num_keep", "threshold", "at_or_above", "l1", "l2"}


def assert_document(made, deltas, relative_to=None):
    """Norms, densities and layers are those of `deltas`, float32 arrays by name."""
    flat = oracle.whole(deltas, deltas)
    assert made["numel"] == flat.size == made["accounting"]["compared"]
    assert_norms(made["norms"], flat)
    assert_densities(made["densities"], flat)
    groups = {}
    for name in deltas:
        [layer] = [k for (level, k), n in oracle.groups([name]).items() if level == "layer"]
        [kind] = [k for (level, k), n in oracle.groups([name]).items() if level == "module"]
        groups.setdefault((layer, kind), []).append(name)
    assert sorted((row["key"], row["module"]) for row in made["layers"]) == sorted(groups)
    for row in made["layers"]:
        part = oracle.whole(deltas, groups[row["key"], row["module"]])
        assert row["numel"] == part.size
        assert_norms(row, part)
    relative = made["norms"]["relative_l2"]
    if relative_to is None:
        assert relative is None
    else:
        assert relative == pytest.approx(made["norms"]["l2"] / norm_of(relative_to, deltas))


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """A base model and checkpoints in bf16, one in float32, by name: (directory, tensors)."""
    path = tmp_path_factory.mktemp("models")
    base = random_weights(0)
    near = {n: (base[n] + 0.02 * v).bfloat16() for n, v in random_weights(1).items()}
    made = {"base": base, "near": near, "far": random_weights(2)}
    made["wide"] = random_weights(3, torch.float32)
    return {name: (write_checkpoint(path / name, t), t) for name, t in made.items()}


@pytest.fixture(scope="module")
def adapters(tmp_path_factory):
    """Adapters over different tensors: (directory, exact deltas)."""
    path = tmp_path_factory.mktemp("adapters")
    factors = {"some": random_factors(1, (Q0, UP0)), "others": random_factors(2, (UP0, Q10))}
    return {name: (write_adapter(path / name, f), deltas_of(f)) for name, f in factors.items()}


@pytest.mark.parametrize(
    ("a", "b", "way"),
    [
        ("near", "base", "foreseen"),
        ("wide", "far", "foreseen"),
        ("far", "near", "misled"),
        ("near", "base", "curve"),
        ("wide", "far", "curve"),
        ("near", "base", "gpu"),
        ("wide", "far", "gpu"),
        ("far", "near", "gpu misled"),
    ],
)
def test_document_of_two_checkpoints_is_exact_in_every_field(models, monkeypatch, a, b, way):
    (one, left), (two, right) = models[a], models[b]
    made = document(one, two, **go(monkeypatch, way))
    assert list(made) == KEYS
    assert (made["a"], made["b"]) == (str(one), str(two))
    assert (made["view"], made["universe"]) == ("delta", "compared")
    assert_document(made, subtracted(left, right), {n: t.float().numpy() for n, t in right.items()})
    assert made["accounting"] == {
        "compared": ALL, "tied": 0, "only_in_a": 0, "only_in_b": 0, "cropped": 0, "skipped": 0,
        "non_finite": 0,
    }  # fmt: skip
    assert [(row["key"], row["module"]) for row in made["layers"]] == [
        ("model.embed_tokens", "embed_tokens"),
        ("model.layers.0", "up_proj"),
        ("model.layers.0", "q_proj.bias"),
        ("model.layers.0", "q_proj"),
        ("model.layers.10", "q_proj"),
        ("model.norm", "norm"),
    ]
    stored = sum(t.nbytes for tensors in (left, right) for t in tensors.values())
    if way == "foreseen":
        # The sample, here, was everything.
        assert (made["bytes_read"], made["passes"]) == (2 * stored, 1)
    else:
        assert stored * made["passes"] < made["bytes_read"] < stored * made["passes"] * 1.2
    if "misled" in way:
        assert made["passes"] > 1
    assert 0 < made["seconds"] < 60


def test_bf16_ties_show_in_at_or_above(models):
    made = document(models["near"][0], models["base"][0])
    ties = [row["at_or_above"] - row["num_keep"] for row in made["densities"][:2]]
    assert min(ties) >= 0 and max(ties) > 10


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(arrays(1), arrays(1), st.sampled_from(WAYS))
def test_document_any_two_arrays_is_exact(tmp_path_factory, left, right, way):
    path = tmp_path_factory.mktemp("any")
    size = min(left.size, right.size)
    left, right = left[:size], right[:size]
    for name, values in (("a", left), ("b", right)):
        write_checkpoint(path / name, {Q0: torch.from_numpy(values.copy()).reshape(size, 1)})
    with np.errstate(over="ignore"):
        values = left - right
    with pytest.MonkeyPatch.context() as patch:
        options = go(patch, way)
        if np.isfinite(values).all():
            made = document(path / "a", path / "b", **options)
            assert_document(made, {Q0: values}, {Q0: right} if right.any() else None)
        else:
            with pytest.raises(ModelError, match="not finite"):
                diff(request(path / "a", path / "b", **options))
    shutil.rmtree(path)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
@pytest.mark.parametrize("size", [63, 2047, 2048, 2113, 4500])
def test_document_of_one_long_row_is_exact_in_blocks_of_any_size(
    tmp_path, monkeypatch, size, dtype
):
    left, right = (random_weights(seed, dtype, {Q0: (1, size)})[Q0] for seed in (size, 1))
    for name, values in (("a", left), ("b", right)):
        write_checkpoint(tmp_path / name, {Q0: values})
    options = go(monkeypatch, "foreseen")
    made = document(tmp_path / "a", tmp_path / "b", densities=(0.01, 0.5), **options)
    assert made["passes"] == 1
    flat = (left.float() - right.float()).numpy()
    assert_norms(made["norms"], flat)
    assert_densities(made["densities"], flat, (0.01, 0.5))


def test_base_relates_the_two_task_vectors_as_numpy_does(models):
    (one, left), (two, right), (base, start) = (models[n] for n in ("near", "far", "base"))
    made = document(one, two, base=base)
    assert list(made) == [
        *KEYS[: KEYS.index("accounting")],
        "base",
        *KEYS[KEYS.index("accounting") :],
    ]
    a, b = subtracted(left, start), subtracted(right, start)
    cosine, agreement, _ = oracle.relate(oracle.whole(a, SHAPES), oracle.whole(b, SHAPES))
    assert set(made["base"]) == {"cosine", "sign_agreement", "l2_a", "l2_b"}
    assert made["base"]["cosine"] == pytest.approx(cosine, abs=1e-12)
    assert made["base"]["sign_agreement"] == agreement
    assert made["base"]["l2_a"] == pytest.approx(norm_of(a, SHAPES), rel=1e-14)
    assert made["base"]["l2_b"] == pytest.approx(norm_of(b, SHAPES), rel=1e-14)


NUMBERS = ("numel", "norms", "densities", "layers", "accounting")


@pytest.mark.parametrize(("a", "b"), [("near", "far"), ("wide", "far")])
def test_document_whatever_else_is_asked_has_the_bits_of_the_tables(models, monkeypatch, a, b):
    """With and without foresight, the curve, a base model, other densities, more threads, or
    entries that may be left out; and as a study reduces the pair."""
    one, two, base = (models[name][0] for name in (a, b, "base"))
    expected = {key: document(one, two)[key] for key in NUMBERS}
    assert len(expected["densities"]) == len(DENSITIES)
    options = go(monkeypatch, "foreseen")
    for more in (
        {},
        {"threads": 3},
        {"curve": True},
        {"base": base},
        {"base": base, "curve": True, "universe": "model"},
        {"tolerance": Tolerance(non_finite="skip")},
    ):
        made = document(one, two, **options | more)
        assert {key: made[key] for key in NUMBERS} == expected, more
    for at in expected["densities"]:
        assert document(one, two, densities=(at["density"],))["densities"] == [at]
    places = {"a": found(one).location, "b": found(two).location}
    tables = reduction.reduce_pairs(
        Job(places, (Pair("a~b", "a", "b"),)), DENSITIES, InProcess(), 3
    )
    assert [{key: row[key] for key in expected["densities"][0]} for row in tables.densities] == (
        expected["densities"]
    )
    whole = next(row for row in tables.norms if row["level"] == "all")
    assert {key: whole[key] for key in expected["norms"]} == expected["norms"]


def test_adapters_whatever_else_is_asked_have_the_bits_of_the_tables(adapters, models, monkeypatch):
    one, two = (adapters[name][0] for name in ("some", "others"))
    expected = document(one, two)
    options = go(monkeypatch, "foreseen")
    for more in ({}, {"curve": True}, {"tolerance": Tolerance(non_finite="skip")}):
        made = document(one, two, **options | more)
        assert {key: made[key] for key in NUMBERS} == {key: expected[key] for key in NUMBERS}


def test_base_costs_no_second_pass_where_thresholds_were_foreseen(models, monkeypatch):
    """Cosine and signs of task vectors need no thresholds, and no masks are asked for."""
    (one, left), (two, right), (base, start) = (models[n] for n in ("wide", "far", "base"))
    made = document(one, two, base=base, **go(monkeypatch, "foreseen"))
    stored = sum(t.nbytes for tensors in (left, right, start) for t in tensors.values())
    assert (made["passes"], made["bytes_read"]) == (1, 2 * stored)


def test_base_of_a_model_that_did_not_move_has_no_cosine(models):
    path = models["base"][0]
    made = document(models["near"][0], path, base=path)["base"]
    assert (made["cosine"], made["sign_agreement"], made["l2_b"]) == (None, None, 0.0)
    assert made["l2_a"] > 0


def padded(deltas, names):
    return {n: deltas[n].numpy() if n in deltas else np.zeros(SHAPES[n]) for n in names}


def assert_near(made, deltas):
    """Norms and densities of float64 `deltas`, which float32 arithmetic rounds."""
    flat = np.concatenate([d.ravel() for d in deltas.values()])
    ordered = np.sort(np.abs(flat))[::-1]
    assert made["numel"] == flat.size
    assert made["norms"]["l1"] == pytest.approx(ordered.sum(), rel=1e-6)
    assert made["norms"]["l2"] == pytest.approx(np.linalg.norm(flat), rel=1e-6)
    assert made["norms"]["linf"] == pytest.approx(ordered[0], rel=1e-6)
    for row in made["densities"]:
        kept = ordered[: exact.num_keep(row["density"], flat.size)]
        assert row["num_keep"] == kept.size
        assert row["threshold"] == pytest.approx(kept[-1], rel=1e-5, abs=1e-8)
        assert row["l2"] == pytest.approx(np.linalg.norm(kept), rel=1e-6)


def test_two_adapters_are_compared_over_what_either_targets(adapters):
    (one, left), (two, right) = adapters["some"], adapters["others"]
    made = document(one, two)
    a, b = padded(left, LINEAR), padded(right, LINEAR)
    assert_near(made, {name: a[name] - b[name] for name in LINEAR})
    assert made["accounting"]["compared"] == made["numel"]
    assert made["norms"]["relative_l2"] is None


def test_universe_model_counts_untouched_parameters_as_zeros(adapters, models):
    (one, left), (two, right), (base, start) = *adapters.values(), models["base"]
    made = document(one, two, base=base, universe="model")
    a, b = padded(left, SHAPES), padded(right, SHAPES)
    assert_near(made, {name: a[name] - b[name] for name in SHAPES})
    assert made["universe"] == "model"
    assert made["accounting"]["compared"] == made["numel"] == ALL
    assert made["norms"]["nonzero"] == sum(SIZES[name] for name in LINEAR)
    weights = norm_of({n: t.float().numpy() for n, t in start.items()}, SHAPES)
    assert made["norms"]["relative_l2"] == pytest.approx(made["norms"]["l2"] / weights)
    assert {row["key"] for row in made["layers"]} >= {"model.norm", "model.embed_tokens"}
    merged = document(one, two, "merged", base=base, universe="model")
    assert merged["numel"] == merged["accounting"]["compared"] == ALL


def test_adapter_against_checkpoint_is_compared_over_the_whole_model(adapters, models):
    (one, left), (two, right), (base, start) = adapters["some"], models["near"], models["base"]
    a = padded(left, SHAPES)
    b = {n: right[n].double().numpy() - start[n].double().numpy() for n in SHAPES}
    there, back = document(one, two, base=base), document(two, one, base=base)
    assert_near(there, {name: a[name] - b[name] for name in SHAPES})
    for key in ("numel", "densities", "layers"):
        assert there[key] == back[key]
    assert (there["base"]["l2_a"], there["base"]["l2_b"]) == (
        back["base"]["l2_b"], back["base"]["l2_a"],
    )  # fmt: skip
    weights = {name: [t.float().numpy() for t in (right[name], start[name])] for name in SHAPES}
    for made, which in ((there, 0), (back, 1)):
        norm = norm_of({name: pair[which] for name, pair in weights.items()}, SHAPES)
        assert made["norms"]["relative_l2"] == pytest.approx(made["norms"]["l2"] / norm)


def test_missing_and_skipped_tensors_leave_the_rest_as_it_is(models, tmp_path):
    one, left = models["near"]
    changed = {EMBED: (32, 24), Q0: (48, 20), NORM: None, HEAD: (8, 8)}
    right = random_weights(7, shapes=changed)
    two = write_checkpoint(tmp_path / "b", right)
    compared = (UP0, BIAS0, Q10)
    with pytest.raises(ModelError, match="q_proj"):
        diff(request(one, two, tolerance=Tolerance("skip", "crop")))
    made = document(one, two, tolerance=Tolerance("skip", "skip"))
    same = {name: right[name] for name in compared}
    weights = {name: t.float().numpy() for name, t in same.items()}
    assert_document(made, subtracted(left, same), weights)
    assert made["accounting"] == {
        "compared": sum(SIZES[name] for name in compared), "tied": 0,
        "only_in_a": SIZES[NORM], "only_in_b": 64, "cropped": 0,
        "skipped": SIZES[EMBED] + SIZES[Q0], "non_finite": 0,
    }  # fmt: skip


@pytest.mark.parametrize("base", [None, "base"])
def test_cropped_vocabulary_compares_the_rows_that_both_have(models, tmp_path, base):
    (one, left), (_, right) = models["near"], models["far"]
    two = write_checkpoint(tmp_path / "b", {**right, EMBED: right[EMBED][:32].clone()})
    options = {"tolerance": Tolerance(mismatch="crop"), "base": base and models[base][0]}
    made = document(one, two, **options)
    rows = {n: t[:32] if n == EMBED else t for n, t in left.items()}
    theirs = {n: t[:32] if n == EMBED else t for n, t in right.items()}
    assert_document(made, subtracted(rows, theirs), {n: t.float() for n, t in theirs.items()})
    assert (made["accounting"]["cropped"], made["accounting"]["compared"]) == (192, ALL - 192)


def test_nothing_in_common_is_an_error_not_an_empty_result(models, tmp_path):
    other = write_checkpoint(tmp_path / "b", {"other.weight": torch.ones(2, 2)})
    with pytest.raises(ModelError, match="nothing"):
        diff(request(models["near"][0], other, tolerance=Tolerance(missing="skip")))


@pytest.fixture
def broken(models, tmp_path):
    """A copy of `far` with NaN, infinity and minus infinity: (directory, tensors)."""
    tensors = {name: tensor.clone() for name, tensor in models["far"][1].items()}
    tensors[UP0][3, 5], tensors[UP0][90, 1] = float("nan"), float("inf")
    tensors[Q10][0, 0] = -float("inf")
    return write_checkpoint(tmp_path / "broken", tensors), tensors


@pytest.mark.parametrize("base", [None, "base"])
def test_entries_that_are_not_finite_are_an_error_that_names_a_tensor(models, broken, base):
    base = base and models[base][0]
    for a, b in ((broken[0], models["near"][0]), (models["near"][0], broken[0])):
        with pytest.raises(ModelError, match="not finite") as error:
            diff(request(a, b, base=base))
        assert error.value.exit_status == 2
        assert UP0 in error.value.message or Q10 in error.value.message
        assert "--non-finite skip" in error.value.message


@pytest.mark.parametrize("base", [None, "base"])
@pytest.mark.parametrize("order", [1, -1])
def test_entries_that_are_not_finite_are_left_out_and_counted_once(models, broken, base, order):
    (one, left), (two, right) = [models["near"], broken][::order]
    made = document(one, two, base=base and models[base][0], tolerance=Tolerance(non_finite="skip"))
    kept = {n: torch.isfinite(left[n].float() - right[n].float()) for n in left}
    deltas = {n: d[kept[n].numpy()] for n, d in subtracted(left, right).items()}
    weights = {n: right[n].float()[kept[n]].numpy() for n in right}
    assert_document(made, deltas, weights)
    assert made["accounting"]["non_finite"] == 3
    assert sum(made["accounting"].values()) == ALL
    if base:
        start = models[base][1]
        vectors = [
            {n: d[kept[n].numpy()] for n, d in subtracted(side, start).items()}
            for side in (left, right)
        ]
        flat = [oracle.whole(v, SHAPES) for v in vectors]
        assert made["base"]["sign_agreement"] == oracle.relate(*flat)[1]
        assert made["base"]["cosine"] == pytest.approx(oracle.relate(*flat)[0], abs=1e-3)


def test_base_model_of_fewer_rows_or_other_columns_is_an_error_that_names_them(models, tmp_path):
    for shapes in ({EMBED: (32, 24)}, {Q0: (48, 20)}, {NORM: None}):
        (name,) = shapes
        path = write_checkpoint(tmp_path / name, random_weights(0, shapes=shapes))
        with pytest.raises(ModelError, match=name.replace(".", r"\.")):
            diff(request(models["near"][0], models["far"][0], base=path))


@pytest.mark.parametrize("way", WAYS)
def test_document_any_threads_is_the_same(models, adapters, monkeypatch, way):
    base = models["base"][0]
    go(monkeypatch, way)
    requests = [
        (models["wide"][0], models["far"][0], {"curve": way == "curve"}),
        (adapters["some"][0], adapters["others"][0], {"curve": way == "curve"}),
        (models["near"][0], models["far"][0], {"base": base}),
        (adapters["some"][0], adapters["others"][0], {"base": base, "view": "merged"}),
        (adapters["some"][0], models["near"][0], {"base": base}),
    ]
    before = torch.get_num_threads()
    for a, b, options in requests:
        made = []
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            made.append(document(a, b, threads=threads, **options))
            del made[-1]["seconds"]
        torch.set_num_threads(before)
        assert made[0] == made[1] == made[2]


def test_tables_of_a_difference_hold_its_numbers_under_the_names_given(models, tmp_path):
    made = diff(request(models["near"][0], models["far"][0], curve=True))
    store = Store(str(tmp_path / "out"))
    write_diff(made, store)
    document = json.loads(store.read("diff.json"))
    assert document == json.loads(json.dumps(made.document))
    norms, densities, curve = (
        read_table(store, name).to_pylist() for name in ("norms", "densities", "curve")
    )
    names = str(models["near"][0]), str(models["far"][0])
    assert {(r["comparison"], r["a"], r["b"]) for r in norms} == {("~".join(names), *names)}
    [whole] = [row for row in norms if row["level"] == "all"]
    assert {key: whole[key] for key in document["norms"]} == document["norms"]
    assert sum(row["level"] == "tensor" for row in norms) == len(SHAPES)
    assert [row["threshold"] for row in densities] == [
        row["threshold"] for row in document["densities"]
    ]
    assert len(curve) == 512
    assert {row["comparison"] for row in densities + curve} == {"~".join(names)}
    assert {row["universe"] for row in norms + densities + curve} == {"compared"}


@pytest.mark.parametrize(("view", "universe"), [("merged", "compared"), ("delta", "model")])
def test_view_or_universe_without_base_model_is_an_error(adapters, view, universe):
    with pytest.raises(ModelError, match="base model") as error:
        diff(request(adapters["some"][0], adapters["others"][0], view, universe=universe))
    assert "--base" in error.value.message


def test_dequantized_without_settings_or_with_two_is_an_error(adapters, models):
    some, others, base = adapters["some"][0], adapters["others"][0], models["base"][0]
    with pytest.raises(ModelError, match="quantised"):
        diff(request(some, others, "dequantized", base=base))
    one = FoundModel("one", ModelLocation((some,)), Quantization())
    two = FoundModel("two", ModelLocation((others,)), Quantization(type="fp4"))
    with pytest.raises(ModelError, match="fp4"):
        view_of("dequantized", one, two)
    assert view_of("dequantized", one, found(others)) == View("dequantized", Quantization())
    assert view_of("delta", one, two) == View()


QUANTIZATION = {"compute_dtype": "float32"}


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """OUT of a study with a trial and one chained to it, over a tiny Llama in bf16."""
    path = tmp_path_factory.mktemp("study")
    base = save_tiny(path / "base", "llama")
    parent = save_adapter(path / "parent", base, 1)
    child = save_adapter(path / "child", base, 2, target_modules=["q_proj", "up_proj"])
    trials = {
        "tiny.first.s1": ("a" * 16, "tiny", None, parent),
        "tiny.second.s1": ("b" * 16, "tiny", "a" * 16, child),
    }
    write_store(path / "out", trials, {"tiny": base}, quantization=QUANTIZATION)
    return path / "out", base, parent, child


def assert_rounded(made, deltas):
    """The whole norms and densities are those of float32 `deltas` of the linear layers."""
    flat = oracle.whole(deltas, [name for name in deltas if "proj" in name])
    ordered = np.sort(np.abs(flat))[::-1]
    wide = ordered.astype(np.float64)
    norms = made["norms"]
    assert made["numel"] == flat.size
    assert (norms["linf"], norms["nonzero"]) == (ordered[0], np.count_nonzero(flat))
    assert norms["l1"] == pytest.approx(math.fsum(wide), rel=1e-13, abs=0)
    assert norms["l2"] == pytest.approx(np.linalg.norm(wide), rel=1e-13, abs=0)
    for row in made["densities"]:
        keep = exact.num_keep(row["density"], flat.size)
        assert (row["num_keep"], row["threshold"]) == (keep, ordered[keep - 1])
        assert row["at_or_above"] == np.count_nonzero(ordered >= ordered[keep - 1])
        assert row["l1"] == pytest.approx(math.fsum(wide[:keep]), rel=1e-13, abs=0)
        assert row["l2"] == pytest.approx(np.linalg.norm(wide[:keep]), rel=1e-13, abs=0)


def names_of(merged, base):
    return {name: merged[name] for name in Checkpoint(base).shapes}


def test_trials_need_no_base_option_for_their_own_base_model(study):
    out, base, parent, _ = study
    made = document(f"{out}#tiny.second.s1", f"{out}#tiny.first.s1")
    assert made["norms"]["relative_l2"] is not None
    whole = document(f"{out}#tiny.first.s1", f"{out}#tiny", universe="model")
    assert whole["norms"]["l2"] == document(parent, f"{out}#tiny")["norms"]["l2"]
    weights = {n: t.float().numpy() for n, t in names_of(merged_by_peft(base), base).items()}
    assert whole["numel"] == sum(v.size for v in weights.values())
    assert whole["norms"]["relative_l2"] == pytest.approx(
        whole["norms"]["l2"] / norm_of(weights, weights)
    )


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("view", ["delta", "merged"])
def test_trial_and_checkpoint_are_relative_to_whole_weights(study, monkeypatch, way, view):
    """The trial brings its base model, the checkpoint its own weights."""
    out, base, _, _ = study
    other = save_tiny(out.parent / f"{view}-{way[0]}", "llama", 5)
    weights = {
        path: {n: t.float().numpy() for n, t in names_of(merged_by_peft(path), path).items()}
        for path in (base, other)
    }
    options = go(monkeypatch, way)
    for a, b, of in ((f"{out}#tiny.first.s1", other, other), (other, f"{out}#tiny.first.s1", base)):
        norms = document(a, b, view, **options)["norms"]
        expected = norms["l2"] / norm_of(weights[of], weights[of])
        assert norms["relative_l2"] == pytest.approx(expected, rel=1e-9)


def test_chained_trial_less_its_parent_is_its_own_adapter(study):
    out, _, _, child = study
    chained = document(f"{out}#tiny.second.s1", f"{out}#tiny.first.s1")
    own = document(child, f"{out}#tiny")
    assert chained["norms"]["l2"] == pytest.approx(own["norms"]["l2"], rel=1e-6)
    assert chained["numel"] > own["numel"]


def test_merged_view_of_a_chain_is_what_peft_saves(study):
    out, base, parent, child = study
    merged = {
        "tiny": names_of(merged_by_peft(base), base),
        "tiny.first.s1": names_of(merged_by_peft(base, parent), base),
        "tiny.second.s1": names_of(merged_by_peft(base, parent, child), base),
    }
    for a, b in (("tiny.second.s1", "tiny"), ("tiny.second.s1", "tiny.first.s1")):
        made = document(f"{out}#{a}", f"{out}#{b}", "merged")
        assert_rounded(made, subtracted(merged[a], merged[b]))


def held(weights):
    """What training in 4 bits holds of the linear layers."""
    return {
        name: dequantize_4bit(*quantize_4bit(t.float(), blocksize=64, quant_type="nf4"))
        if "proj" in name
        else t
        for name, t in weights.items()
    }


def test_dequantized_view_adds_the_delta_to_what_training_held(study):
    out, base, parent, child = study
    plain = names_of(merged_by_peft(base), base)
    start = names_of(merged_by_peft(base, parent), base)
    model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), child)
    own = {
        f"{name}.weight": module.get_delta_weight("default").detach()
        for name, module in model.base_model.model.named_modules()
        if hasattr(module, "get_delta_weight")
    }
    before, origin = held(start), held(plain)
    trained = {n: (w.float() + own.get(n, 0)).bfloat16() for n, w in before.items()}
    made = document(f"{out}#tiny.second.s1", f"{out}#tiny", "dequantized")
    assert_rounded(made, subtracted(trained, {n: w.bfloat16() for n, w in origin.items()}))


def test_diff_opens_each_model_once(tmp_path, monkeypatch):
    opened = []
    begin = Checkpoint.__init__

    def counted(self, directory, *arguments, **options):
        opened.append(directory.name)
        begin(self, directory, *arguments, **options)

    for index, name in enumerate(("one", "two", "base")):
        write_checkpoint(tmp_path / name, random_weights(index))
    monkeypatch.setattr(Checkpoint, "__init__", counted)
    diff(request(tmp_path / "one", tmp_path / "two"))
    assert sorted(opened) == ["one", "two"]


@pytest.mark.parametrize("kind", ["adapter", "checkpoint"])
@pytest.mark.parametrize("named", ["path", "other path", "--base"])
def test_model_against_its_base_model_has_the_numbers_of_a_study(
    models, adapters, tmp_path, kind, named
):
    """A study compares with its base model, and a user names the base model's directory."""
    base, _ = models["base"]
    made = adapters["some"][0] if kind == "adapter" else models["near"][0]
    place = (
        ModelLocation((made,), base=base)
        if kind == "adapter"
        else ModelLocation(checkpoint=made, base=base)
    )
    job = Job({"a": place, BASE: ModelLocation()}, (Pair("p", "a", BASE),), base)
    expected = reduction.reduce_pairs(job, DENSITIES, InProcess())
    link = tmp_path / "link"
    link.symlink_to(base)
    path = link if named == "other path" else base
    other = FoundModel("base", find_model(str(path)).location)
    a = FoundModel("made", place if named != "--base" else replace(place, base=None))
    found = diff(
        DiffRequest(a, other, base=base if named == "--base" else None, densities=DENSITIES)
    )
    [whole] = [row for row in expected.norms if row["level"] == "all"]
    assert found.document["numel"] == whole["numel"]
    assert found.document["norms"] == {key: whole[key] for key in found.document["norms"]}
    for mine, row in zip(found.document["densities"], expected.densities, strict=True):
        assert mine == {key: row[key] for key in mine}
