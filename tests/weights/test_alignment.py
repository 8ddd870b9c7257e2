"""Every entry of the union of two models is accounted for, and errors name what differs."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from raylab.errors import ModelError
from raylab.reduce.job import InProcess, Job
from raylab.reduce.passes import reduce_pairs
from raylab.reduce.row_block import Pair
from raylab.store.references import ModelLocation
from raylab.weights import Checkpoint
from raylab.weights.alignment import EntryCounts, Tolerance, align
from raylab.weights.views import ViewedModel
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
    random_factors,
    random_weights,
    write_adapter,
    write_checkpoint,
)

ALL = sum(math.prod(shape) for shape in SHAPES.values())
COUNTS = ("compared", "tied", "only_in_a", "only_in_b", "cropped", "skipped", "non_finite")
TOLERANCES = [
    Tolerance(missing, mismatch)
    for missing, mismatch in itertools.product(("error", "skip"), ("error", "crop", "skip"))
]


def size(*names):
    return sum(math.prod(SHAPES[name]) for name in names)


def side(directory, shapes=None, extra=None, base=None, **config):
    """A checkpoint of SHAPES with `shapes` over them, and tensors beside the parameters."""
    tensors = random_weights(1, shapes=shapes) | (extra or {})
    return ViewedModel(
        ModelLocation(checkpoint=write_checkpoint(directory, tensors, **config), base=base)
    )


def counts(**found):
    return dict.fromkeys(COUNTS, 0) | found


def test_two_checkpoints_of_one_shape_are_compared_whole(tmp_path):
    shapes, found = align(side(tmp_path / "a"), side(tmp_path / "b"), Tolerance())
    assert shapes == SHAPES
    assert found.as_row() == counts(compared=ALL)
    assert tuple(found.as_row()) == COUNTS


@pytest.mark.parametrize(("lacking", "message"), [("b", "only a has"), ("a", "only b has")])
def test_missing_tensors_are_an_error_that_names_them_unless_skipped(tmp_path, lacking, message):
    without = {Q10: None, NORM: None}
    a = side(tmp_path / "a", without if lacking == "a" else None)
    b = side(tmp_path / "b", without if lacking == "b" else None)
    with pytest.raises(ModelError) as error:
        align(a, b, Tolerance(mismatch="skip"))
    assert message in error.value.message
    assert Q10 in error.value.message and NORM in error.value.message
    assert "--missing skip" in error.value.todo
    shapes, found = align(a, b, Tolerance(missing="skip"))
    assert set(shapes) == set(SHAPES) - set(without)
    only = "only_in_a" if lacking == "b" else "only_in_b"
    assert found.as_row() == counts(compared=ALL - size(Q10, NORM), **{only: size(Q10, NORM)})


@pytest.mark.parametrize("lacking", ["b", "a"])
def test_missing_tensors_of_the_larger_part_are_counted_and_no_skip_is_advised(tmp_path, lacking):
    kept = NORM
    without = dict.fromkeys(set(SHAPES) - {kept})
    a = side(tmp_path / "a", without if lacking == "a" else None)
    b = side(tmp_path / "b", without if lacking == "b" else None)
    with pytest.raises(ModelError) as error:
        align(a, b, Tolerance())
    share = (ALL - size(kept)) / ALL
    assert "skip would" not in error.value.todo and "--missing" not in error.value.todo
    assert f"{ALL - size(kept):,} of {ALL:,} entries ({share:.0%})" in error.value.todo


@pytest.mark.parametrize("shorter", ["a", "b"])
def test_vocabulary_rows_are_an_error_unless_cropped_or_skipped(tmp_path, shorter):
    a = side(tmp_path / "a", {EMBED: (32, 24)} if shorter == "a" else None)
    b = side(tmp_path / "b", {EMBED: (32, 24)} if shorter == "b" else None)
    with pytest.raises(ModelError) as error:
        align(a, b, Tolerance(missing="skip"))
    assert EMBED in error.value.message
    assert "(40, 24)" in error.value.message and "(32, 24)" in error.value.message
    assert "--mismatch crop" in error.value.todo
    shapes, found = align(a, b, Tolerance(mismatch="crop"))
    assert shapes == SHAPES | {EMBED: (32, 24)}
    assert found.as_row() == counts(compared=ALL - 8 * 24, cropped=8 * 24)
    shapes, found = align(a, b, Tolerance(mismatch="skip"))
    assert EMBED not in shapes
    assert found.as_row() == counts(compared=ALL - size(EMBED), skipped=size(EMBED))


def test_two_shapes_of_the_larger_part_are_counted_and_no_skip_is_advised(tmp_path):
    wider = {name: (*shape[:-1], shape[-1] + 8) for name, shape in SHAPES.items() if name != NORM}
    a, b = side(tmp_path / "a"), side(tmp_path / "b", wider)
    with pytest.raises(ModelError) as error:
        align(a, b, Tolerance())
    lost = sum(math.prod(shape) for shape in wider.values())
    assert "--mismatch" not in error.value.todo
    assert f"{len(wider)} tensors of {lost:,} entries" in error.value.todo
    assert f"{size(NORM):,} entries have one" in error.value.todo


@pytest.mark.parametrize("shape", [(48, 20), (48, 24, 1), (1152,)])
def test_columns_that_differ_are_no_rows_to_crop(tmp_path, shape):
    a, b = side(tmp_path / "a"), side(tmp_path / "b", {Q0: shape})
    with pytest.raises(ModelError, match=r"q_proj\.weight has two shapes"):
        align(a, b, Tolerance(mismatch="crop"))
    shapes, found = align(a, b, Tolerance(mismatch="skip"))
    assert Q0 not in shapes
    assert found.skipped == max(math.prod(shape), size(Q0))


def tied_weights(stored=True):
    weights = random_weights(1)
    return weights | ({HEAD: weights[EMBED].clone()} if stored else {})


def test_stored_alias_counts_once_as_tied_whoever_stores_it(tmp_path):
    paths = {
        stored: write_checkpoint(
            tmp_path / str(stored), tied_weights(stored), tie_word_embeddings=True
        )
        for stored in (True, False)
    }
    for first, second in itertools.product(paths.values(), paths.values()):
        a, b = (
            ViewedModel(ModelLocation(checkpoint=first)),
            ViewedModel(ModelLocation(checkpoint=second)),
        )
        shapes, found = align(a, b, Tolerance())
        assert shapes == SHAPES
        tied = 0 if first == second == paths[False] else size(EMBED)
        assert found.as_row() == counts(compared=ALL, tied=tied)


@pytest.mark.parametrize("stored", [True, False])
def test_head_that_one_model_ties_and_the_other_owns_is_compared_with_what_it_is_tied_to(
    tmp_path, stored
):
    """The other's head is a parameter of its own, whatever the first stores under its name."""
    first = write_checkpoint(tmp_path / "a", tied_weights(stored), tie_word_embeddings=True)
    a = ViewedModel(ModelLocation(checkpoint=first))
    b = side(tmp_path / "b", {HEAD: SHAPES[EMBED]})
    for left, right in ((a, b), (b, a)):
        shapes, found = align(left, right, Tolerance())
        assert shapes == {**SHAPES, HEAD: SHAPES[EMBED]}
        assert found.as_row() == counts(compared=ALL + size(EMBED))


def test_what_is_no_parameter_is_skipped_once_with_the_larger_of_two_shapes(tmp_path):
    inv_freq = "model.layers.0.self_attn.rotary_emb.inv_freq"
    a = side(tmp_path / "a", extra={inv_freq: torch.ones(8)})
    b = side(tmp_path / "b", extra={inv_freq: torch.ones(5)})
    plain = side(tmp_path / "c")
    for left, right in ((a, a), (a, b), (b, a), (a, plain), (plain, a)):
        assert align(left, right, Tolerance())[1].as_row() == counts(compared=ALL, skipped=8)


def adapter(directory, names, base=None):
    path = write_adapter(directory, random_factors(1, names))
    return ViewedModel(ModelLocation((path,), base=base))


def test_adapters_are_compared_over_what_either_targets(tmp_path):
    a, b = adapter(tmp_path / "a", (Q0, UP0)), adapter(tmp_path / "b", (UP0, Q10))
    shapes, found = align(a, b, Tolerance())
    assert shapes == {name: SHAPES[name] for name in LINEAR}
    assert found.as_row() == counts(compared=size(*LINEAR))


def test_adapters_of_two_shapes_are_an_error_that_names_the_tensor(tmp_path):
    a = adapter(tmp_path / "a", (Q0,))
    path = write_adapter(tmp_path / "b", random_factors(1, (Q0,), shapes={Q0: (48, 32)}))
    for tolerance in TOLERANCES:
        with pytest.raises(ModelError, match=r"q_proj\.weight has two shapes"):
            align(a, ViewedModel(ModelLocation((path,))), tolerance)


@pytest.fixture
def tied_base(tmp_path):
    return write_checkpoint(tmp_path / "base", tied_weights(), tie_word_embeddings=True)


def test_universe_of_the_model_counts_all_of_it_and_its_aliases(tmp_path, tied_base):
    base = Checkpoint(tied_base)
    a = adapter(tmp_path / "a", (Q0,), tied_base)
    for other in (adapter(tmp_path / "b", (UP0,)), ViewedModel(ModelLocation(base=tied_base))):
        shapes, found = align(a, other, Tolerance(), base, "model")
        assert shapes == SHAPES
        assert found.as_row() == counts(compared=ALL, tied=size(EMBED))


def test_universe_of_the_model_adds_nothing_to_what_was_left_out_of_checkpoints(tmp_path):
    base = Checkpoint(write_checkpoint(tmp_path / "base", random_weights(0)))
    a = side(tmp_path / "a", {Q10: None, EMBED: (32, 24)})
    b = side(tmp_path / "b")
    for mismatch in ("crop", "skip"):
        tolerance = Tolerance("skip", mismatch)
        assert align(a, b, tolerance, base, "model") == align(a, b, tolerance, base)


def test_adapter_against_checkpoint_is_compared_over_all_of_its_base_model(tmp_path, tied_base):
    base = Checkpoint(tied_base)
    a = adapter(tmp_path / "a", (Q0,), tied_base)
    b = side(tmp_path / "b", base=tied_base, tie_word_embeddings=True)
    for left, right in ((a, b), (b, a)):
        shapes, found = align(left, right, Tolerance(), base)
        assert shapes == SHAPES
        assert found.as_row() == counts(compared=ALL, tied=size(EMBED))


@pytest.mark.parametrize("kind", ["adapter", "base model itself"])
def test_checkpoint_that_lacks_a_tensor_of_the_base_model_is_an_error(tmp_path, kind):
    path = write_checkpoint(tmp_path / "base", random_weights(0))
    base = Checkpoint(path)
    a = (
        adapter(tmp_path / "a", (Q0,), path)
        if kind == "adapter"
        else ViewedModel(ModelLocation(base=path))
    )
    b = side(tmp_path / "b", {Q10: None, EMBED: (44, 24)}, base=path)
    with pytest.raises(ModelError, match=r"layers\.10\.self_attn\.q_proj"):
        align(a, b, Tolerance(mismatch="crop"), base)
    with pytest.raises(ModelError, match=r"embed_tokens"):
        align(a, b, Tolerance(missing="skip"), base)
    shapes, found = align(a, b, Tolerance("skip", "crop"), base)
    assert shapes == {name: shape for name, shape in SHAPES.items() if name != Q10}
    assert found.as_row() == counts(compared=ALL - size(Q10), only_in_a=size(Q10), cropped=4 * 24)


def test_adapter_against_checkpoint_without_base_model_is_an_error(tmp_path):
    a, b = adapter(tmp_path / "a", (Q0,)), side(tmp_path / "b")
    for left, right in ((a, b), (b, a)):
        with pytest.raises(ModelError, match="base model") as error:
            align(left, right, Tolerance())
        assert "--base" in error.value.message


def test_without_moves_entries_that_are_not_finite():
    found = EntryCounts(compared=10, tied=3).without(4)
    assert found.as_row() == counts(compared=6, tied=3, non_finite=4)


NAMES = (EMBED, Q0, BIAS0, NORM, HEAD)
SOME = st.dictionaries(
    st.sampled_from(NAMES), st.sampled_from([(4, 3), (6, 3), (4, 2), (12,)]), min_size=1
)


class Whole:
    """A side that is a checkpoint, without any file."""

    def __init__(self, shapes, tied, skipped):
        self.shapes = {n: s for n, s in shapes.items() if n not in tied and n not in skipped}
        self.tied = {n: shapes[n] for n in tied if n in shapes and n not in skipped}
        self.skipped = {n: shapes[n] for n in skipped if n in shapes}
        self.checkpoint = self

    def is_alias(self, name):
        return name in self.tied and EMBED in self.shapes

    def stored_name(self, name):
        return EMBED if self.is_alias(name) else name

    def shape(self, name):
        return self.shapes[self.stored_name(name)]


WHOLES = st.builds(Whole, SOME, st.sets(st.just(HEAD)), st.sets(st.just(NORM)))


def largest(one, other):
    return {
        name: max(math.prod(shapes[name]) for shapes in (one, other) if name in shapes)
        for name in one | other
    }


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(WHOLES, WHOLES, st.sampled_from(TOLERANCES))
def test_counts_of_any_two_checkpoints_add_up_to_their_union(a, b, tolerance):
    heads = [{HEAD: w.shape(HEAD)} if w.is_alias(HEAD) else {} for w in (a, b)]
    if HEAD not in a.shapes and HEAD not in b.shapes:
        heads = [{}, {}]
    parameters = largest(a.shapes | heads[0], b.shapes | heads[1])
    union = largest(a.tied | a.skipped, b.tied | b.skipped) | parameters
    try:
        shapes, found = align(a, b, tolerance)
    except ModelError:
        assert "error" in (tolerance.missing, tolerance.mismatch) or tolerance.mismatch == "crop"
        return
    assert sum(found.as_row().values()) == sum(union.values())
    assert found.compared == sum(math.prod(shape) for shape in shapes.values())
    for name, shape in shapes.items():
        assert all(len(shape) == len(w.shape(name)) for w in (a, b))
        assert all(
            mine <= own for w in (a, b) for mine, own in zip(shape, w.shape(name), strict=True)
        )


def test_reduction_over_a_checkpoint_that_lacks_a_tensor_is_an_error_that_names_it(tmp_path):
    """In a study's reduction every comparison shares the tensors of all models."""
    write_checkpoint(tmp_path / "base", random_weights(0))
    write_checkpoint(tmp_path / "whole", random_weights(1))
    write_checkpoint(tmp_path / "part", random_weights(2, shapes={Q10: None}))
    places = {
        "whole": ModelLocation(checkpoint=tmp_path / "whole"),
        "part": ModelLocation(checkpoint=tmp_path / "part"),
        "base": ModelLocation(),
    }
    for a, b in (("whole", "part"), ("part", "whole"), ("part", "base")):
        job = Job(places, (Pair(f"{a}~{b}", a, b),), tmp_path / "base")
        with pytest.raises(ModelError, match=r"part lacks a tensor(.|\n)*layers\.10\.self_attn"):
            reduce_pairs(job, (0.5,), InProcess())
