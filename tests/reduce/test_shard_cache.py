"""Cached results: the bits that were computed, damaged ones missing, nothing computed twice."""

from __future__ import annotations

import hashlib
import io
import math
import struct
from dataclasses import fields, is_dataclass, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raylab.reduce import shard_cache as kept
from raylab.reduce.audit import AuditSums
from raylab.reduce.chains import ChainSums
from raylab.reduce.histogram import Extremes, Interval, Magnitudes, Norms, no_moments
from raylab.reduce.intruders import BaseSums
from raylab.reduce.job import Call, InProcess, Job
from raylab.reduce.masks import Masks
from raylab.reduce.measured import Measured
from raylab.reduce.model_details import Details
from raylab.reduce.pairwise import Relation
from raylab.reduce.passes import detail_models, reduce_pairs
from raylab.reduce.products import Products
from raylab.reduce.row_block import Pair
from raylab.reduce.shard_cache import CachingExecutor, pack, unpack
from raylab.reduce.subspaces import TensorSubspaces
from raylab.store.references import ModelLocation
from tests.reduce.models import (
    Q0,
    UP0,
    random_factors,
    random_weights,
    write_adapter,
    write_checkpoint,
)

QUICK = settings(max_examples=100, deadline=None)
DENSITIES = (0.1, 1.0)
VALUES = np.float64([0.0, -0.0, 1e-320, np.nan, np.inf, 0.1])
MASKS = Masks(
    np.arange(8).reshape(2, 2, 2), np.arange(8).reshape(2, 4), np.arange(4).reshape(2, 1, 2)
)
PRODUCTS = Products(
    7,
    np.array([True, False]),
    VALUES[:4].reshape(2, 2),
    np.arange(4).reshape(2, 2),
    np.zeros((2, 2), np.int64),
    MASKS,
    np.array([[True, False], [False, True]]),
)
AUDITS = [
    AuditSums(3, 2, 0.1, 0.2, 1),
    AuditSums(3, 2, 0.1, 0.2, 1, 1e-300, 0, math.pi),
]
INTERVAL = Interval(3, 4, 2**40, 3**500, 7**800)
MAGNITUDES = Magnitudes(Norms(1), Extremes(), no_moments() + 2**62, [INTERVAL])
CHAIN = ChainSums(0.1, -0.2, 1 / 3, 5e-324)
NORMS = Norms(5, 4, 1e-45, 3**500, 7**800, 3)
EXAMPLES = [
    BaseSums(4, 3, 0.1, 0.02, 0.03, 3, 1),
    *AUDITS,
    CHAIN,
    NORMS,
    Norms(),
    Extremes(3, 1, 2, 1),
    INTERVAL,
    MAGNITUDES,
    PRODUCTS,
    MASKS,
    Relation({Q0: PRODUCTS}),
    Relation(),
    Details({"a": [{"tensor": Q0, "singular_values": [1.5, 0.0], "shares": None}]}, {},
            {"a": {Q0: AUDITS[0]}}),
    Details(chains={"a": {Q0: CHAIN, UP0: CHAIN}}),
    Measured(
        norms={"a~b": {Q0: NORMS}},
        magnitudes={"a~b": MAGNITUDES, "none": Magnitudes()},
        squares={"": {Q0: 0.1}},
        relation=Relation({UP0: PRODUCTS}),
        bytes_read=2**40,
    ),
    Measured(),
    TensorSubspaces(np.array([[0, 2]]), np.array([[4, 2]]), np.full((1, 2, 4), 0.3), VALUES[:2]),
    BaseSums(4096, 1024, 0.1 + 0.2, 5e-324, 1.5, 10, 3),
    ({"a~b": np.arange(6, dtype=np.int64).reshape(2, 3)}, 7),
    ({"a~b": {16256: (np.arange(3), np.array([1, 2, 2**40]))}, "b": {}}, 123),
]  # fmt: skip


def bits(value):
    """A value with its types and bits, so that NaN equals itself and -0.0 is not 0.0."""
    if isinstance(value, np.ndarray):
        return ("array", value.dtype.str, value.shape, value.tobytes())
    if is_dataclass(value):
        return (type(value), {f.name: bits(getattr(value, f.name)) for f in fields(value)})
    if isinstance(value, dict):
        return ("dict", [(bits(key), bits(item)) for key, item in value.items()])
    if isinstance(value, (list, tuple)):
        return (type(value), [bits(item) for item in value])
    if isinstance(value, float):
        return ("float", struct.pack("<d", value))
    return (type(value), value)


@pytest.mark.parametrize("value", EXAMPLES, ids=lambda value: type(value).__name__)
def test_every_kind_of_result_unpacks_with_the_same_bits(value):
    assert bits(unpack(pack(value))) == bits(value)


def test_every_kind_that_can_be_kept_has_an_example():
    assert set(kept._KINDS) <= {type(value) for value in EXAMPLES}


PLAIN = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()
KEYS = st.integers() | st.text()


@QUICK
@given(
    st.recursive(
        PLAIN,
        lambda inner: (
            st.lists(inner)
            | st.tuples(inner, inner)
            | st.dictionaries(KEYS, inner)
            | st.dictionaries(st.sampled_from(["array", "kind", "items", "tuple", "list"]), inner)
        ),
        max_leaves=8,
    )
)
def test_any_nested_value_unpacks_as_it_was(value):
    assert bits(unpack(pack(value))) == bits(value)


DATA = pack(EXAMPLES[-4])


@QUICK
@given(st.integers(0, len(DATA) - 1), st.integers(1, 255))
def test_a_changed_byte_anywhere_is_damage(place, change):
    damaged = bytearray(DATA)
    damaged[place] ^= change
    with pytest.raises(ValueError, match="damaged"):
        unpack(bytes(damaged))


@QUICK
@given(st.integers(0, len(DATA) - 1) | st.just(0), st.binary(max_size=30))
def test_bytes_cut_off_or_put_in_place_of_the_end_are_damage(stop, tail):
    if DATA[:stop] + tail != DATA:
        with pytest.raises(ValueError, match="damaged"):
            unpack(DATA[:stop] + tail)


def test_pickled_objects_are_never_loaded():
    buffer = io.BytesIO()
    np.savez(buffer, text=np.array([print], dtype=object))
    packed = buffer.getvalue()
    with pytest.raises(ValueError, match="allow_pickle"):
        unpack(hashlib.sha256(packed).digest() + packed)


def test_a_kind_of_other_parts_is_damage(monkeypatch):
    """Written by another version of raylab."""
    data = pack(CHAIN)
    monkeypatch.setitem(kept._PACKED, "ChainSums", Extremes)
    with pytest.raises(ValueError, match="damaged"):
        unpack(data)


class Counted:
    """Computes in this process, and says which calls it was given."""

    def __init__(self, stop_after=None):
        self.calls, self._left, self._inside = [], stop_after, InProcess()

    def __call__(self, job, calls):
        for index, result in self._inside(job, calls):
            if self._left == 0:
                raise KeyboardInterrupt
            self._left = None if self._left is None else self._left - 1
            self.calls.append(calls[index].method)
            yield index, result


class Shelf(dict):
    """Results by key."""

    def kept(self, execute):
        return CachingExecutor(execute, self.get, self.__setitem__)


@pytest.fixture(scope="module")
def job(tmp_path_factory):
    """Two checkpoints, two adapters, one chain: every method has something to give."""
    path = tmp_path_factory.mktemp("kept")
    for seed, name in enumerate(("base", "one", "two")):
        write_checkpoint(path / name, random_weights(seed))
    for seed, name in enumerate(("first", "second")):
        write_adapter(path / name, random_factors(seed))
    places = {
        "one": ModelLocation(checkpoint=path / "one"),
        "two": ModelLocation(checkpoint=path / "two"),
        "chain": ModelLocation((path / "first", path / "second")),
        "base": ModelLocation(),
    }
    pairs = (Pair("one~two", "one", "two"), Pair("chain~base", "chain", "base"))
    vectors = ("one", "two", "chain")
    return Job(places, pairs, path / "base", vectors=vectors, threads=2, id="f" * 16)


def tables(job, execute):
    rows = reduce_pairs(job, DENSITIES, execute, 3, subspaces=True)
    rows.extend(detail_models(job, execute, 3))
    return rows


@pytest.fixture(scope="module")
def expected(job):
    return tables(job, InProcess())


def test_packed_results_are_kept_as_they_are_and_give_the_same_bits(job, expected):
    inside = InProcess()

    def packed(job, calls):
        return ((index, pack(result)) for index, result in inside(job, calls))

    shelf = Shelf()
    assert bits(tables(job, shelf.kept(packed))) == bits(expected)
    assert bits(tables(job, shelf.kept(None))) == bits(expected)


def test_second_reduction_computes_nothing_and_gives_the_same_bits(job, expected):
    shelf, first, second = Shelf(), Counted(), Counted()
    kept_first, kept_second = shelf.kept(first), shelf.kept(second)
    assert bits(tables(job, kept_first)) == bits(expected)
    assert bits(tables(job, kept_second)) == bits(expected)
    methods = {"sample", "measure", "collect", "relate", "subspaces", "detail"}
    assert set(first.calls) == methods
    assert (second.calls, kept_first.found, kept_second.found) == ([], 0, len(first.calls))
    assert all(isinstance(data, bytes) and len(key) == 32 for key, data in shelf.items())


@pytest.mark.parametrize("done", [0, 1, 4, 7, 10, 13, 16])
def test_killed_reduction_goes_on_where_it_was(job, expected, done):
    shelf, first, second = Shelf(), Counted(stop_after=done), Counted()
    with pytest.raises(KeyboardInterrupt):
        tables(job, shelf.kept(first))
    assert len(shelf) == done
    made = tables(job, shelf.kept(second))
    assert len(second.calls) == 18 - done
    # A shard whose candidates died with their process is read again for them.
    same = replace(made, bytes_read_again=expected.bytes_read_again, passes=expected.passes)
    assert bits(same) == bits(expected)


def test_damaged_part_is_computed_again_alone(job, expected):
    shelf = Shelf()
    tables(job, shelf.kept(Counted()))
    third = list(shelf)[2]
    whole = shelf[third]
    shelf[third] = whole[:-1]
    again = Counted()
    assert bits(tables(job, shelf.kept(again))) == bits(expected)
    assert again.calls == ["sample"]
    assert bits(unpack(shelf[third])) == bits(unpack(whole))


def test_results_of_another_job_method_or_argument_are_others(job):
    shelf = Shelf()
    first = Counted()
    names = (Q0, UP0)
    call = Call("sample", (names,))
    list(shelf.kept(first)(job, [call]))
    others = [
        (replace(job, id="0" * 16), call),
        (replace(job, pairs=job.pairs[:1]), call),
        (replace(job, vectors=()), call),
        (replace(job, count_untouched=True), call),
        (replace(job, skip_non_finite=True), call),
        (job, Call("sample", (names[:1],))),
        (job, Call("measure", (names, {}, {}))),
        (job, Call("measure", (names, {"one~two": (3,)}, {}))),
        (job, Call("measure", (names, {}, {"one": (3,)}))),
        (job, Call("relate", (names, {"one": (3,)}))),
        (job, Call("relate", (names, {"one": (4,)}))),
    ]
    for other, asked in others:
        before = len(first.calls)
        list(shelf.kept(first)(other, [asked]))
        assert len(first.calls) == before + 1, (other, asked)
    list(shelf.kept(first)(replace(job, threads=1), [call]))
    assert len(first.calls) == len(others) + 1


def test_reduction_with_a_model_more_is_not_taken_for_the_one_without(job):
    """A trial that failed before a reduction was killed may be there when it goes on."""
    shelf = Shelf()
    places = {key: place for key, place in job.places.items() if key != "chain"}
    fewer = replace(job, places=places, pairs=job.pairs[:1], vectors=("one", "two"))
    reduce_pairs(fewer, DENSITIES, shelf.kept(InProcess()), 3)
    expected = reduce_pairs(job, DENSITIES, InProcess(), 3)
    assert bits(reduce_pairs(job, DENSITIES, shelf.kept(InProcess()), 3)) == bits(expected)


def test_results_come_kept_ones_first_each_with_its_index(job):
    shelf = Shelf()
    calls = [Call("sample", ((name,),)) for name in (Q0, UP0)]
    list(shelf.kept(InProcess())(job, calls[1:]))
    found = list(shelf.kept(InProcess())(job, calls))
    assert [index for index, _ in found] == [1, 0]
    alone = dict(InProcess()(job, calls))
    assert bits(dict(found)[0]) == bits(alone[0])


def test_job_without_an_id_is_a_mistake_of_raylab(job):
    with pytest.raises(AssertionError, match="id"):
        list(Shelf().kept(InProcess())(replace(job, id=""), [Call("sample", ((Q0,),))]))
