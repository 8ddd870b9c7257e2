"""Rows that somebody asks for, against the same asked of pandas."""

from __future__ import annotations

import math

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from raylab.errors import InputError
from raylab.store.table_query import OPERATORS, parse_filter, select, unmatched

ROWS = [
    {"name": "b", "l2": 2.5, "seed": 42, "marked": True},
    {"name": "a", "l2": None, "seed": 100, "marked": False},
    {"name": "c", "l2": 10.0, "seed": 42, "marked": None},
    {"name": "sft~d", "l2": 2.5, "seed": 7, "marked": False},
]
TABLE = pa.Table.from_pylist(ROWS)


def names(*filters, sort=()):
    found = select(TABLE, [parse_filter(text) for text in filters], sort)
    return [row["name"] for row in found.to_pylist()]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("seed=42", ["b", "c"]),
        ("seed!=42", ["a", "sft~d"]),
        ("l2>2.5", ["c"]),
        ("l2>=2.5", ["b", "c", "sft~d"]),
        ("l2 < 3", ["b", "sft~d"]),
        ("l2<=2.5", ["b", "sft~d"]),
        ("l2=null", ["a"]),
        ("l2!=null", ["b", "c", "sft~d"]),
        ("name~^[ab]$", ["b", "a"]),
        ("name=sft~d", ["sft~d"]),
        ("marked=true", ["b"]),
    ],
)
def test_select_one_filter_keeps_the_rows_that_hold(text, expected):
    assert names(text) == expected


def test_select_two_filters_must_both_hold():
    assert names("l2>=2.5", "seed=42") == ["b", "c"]


def test_select_sort_keeps_the_order_of_equals_and_puts_missing_last():
    assert names(sort=["l2"]) == ["b", "sft~d", "c", "a"]
    assert names(sort=["-l2"]) == ["c", "b", "sft~d", "a"]
    assert names(sort=["-seed", "name"]) == ["a", "b", "c", "sft~d"]


def test_select_columns_come_in_the_order_asked():
    found = select(TABLE, columns=["l2", "name"])
    assert found.schema.names == ["l2", "name"]


@pytest.mark.parametrize(
    ("filters", "sort", "columns", "what"),
    [
        (["l3=1"], [], [], "l3"),
        ([], ["-l3"], [], "l3"),
        ([], [], ["l3"], "l3"),
        (["l2=many"], [], [], "many"),
        (["name~["], [], [], r"\["),
        (["seed<x"], [], [], "x"),
    ],
)
def test_select_what_is_not_understood_is_named(filters, sort, columns, what):
    with pytest.raises(InputError, match=what) as caught:
        select(TABLE, [parse_filter(text) for text in filters], sort, columns)
    assert caught.value.exit_status == 2


@pytest.mark.parametrize("text", ["", "l2", "=3", "a b", "(a)=3"])
def test_parse_filter_without_an_operator_is_refused(text):
    with pytest.raises(InputError, match="not understood"):
        parse_filter(text)


@given(
    st.lists(st.one_of(st.none(), st.floats(-9, 9)), min_size=1, max_size=20),
    st.sampled_from([op for op in OPERATORS if op != "~"]),
    st.floats(-9, 9),
)
def test_select_numbers_agree_with_python(values, operator, bound):
    python = {
        "=": lambda v: v == bound, "!=": lambda v: v != bound, "<": lambda v: v < bound,
        "<=": lambda v: v <= bound, ">": lambda v: v > bound, ">=": lambda v: v >= bound,
    }  # fmt: skip
    table = pa.table({"v": pa.array(values, pa.float64())})
    found = select(table, [parse_filter(f"v{operator}{bound!r}")]).column("v").to_pylist()
    expected = [v for v in values if v is not None and python[operator](v)]
    assert found == expected
    ordered = select(table, sort=["-v"]).column("v").to_pylist()
    known = sorted((v for v in values if v is not None), reverse=True)
    assert ordered[: len(known)] == known
    assert all(v is None for v in ordered[len(known) :])
    assert not any(v is not None and math.isnan(v) for v in ordered)


def test_select_sort_by_lists_is_refused_by_name():
    table = pa.table({"shares": [[1.0], [0.5]]})
    with pytest.raises(InputError, match="cannot be sorted by shares"):
        select(table, sort=["shares"])


NAMED = pa.Table.from_pylist(
    [
        {"name": "m.sft.learning_rate=3e-4.s1", "recipe": "sft.learning_rate=3e-4"},
        {"name": "m.sft.learning_rate=3e-3.s1", "recipe": "sft.learning_rate=3e-3"},
        {"name": "m.sft-d1.s1", "recipe": "sft-d1"},
        {"name": "m.soup.s1", "recipe": None},
    ]
)


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        ("recipe=sft", [0, 1]),
        ("recipe!=sft", [2]),
        ("recipe=sft.learning_rate=0.0003", [0]),
        ("recipe!=sft.learning_rate=0.0003", [1, 2]),
        ("name=m.sft.learning_rate=0.00030.s1", [0]),
        ("name~rate=0.003", [1]),
        ("name~rate=3e-3", [1]),
        ("recipe=sft-d1", [2]),
        ("recipe=null", [3]),
        ("recipe=sf", []),
    ],
)
def test_select_by_a_name_takes_every_spelling_and_all_variants(text, rows):
    found = select(NAMED, [parse_filter(text)]).to_pylist()
    assert found == [NAMED.to_pylist()[row] for row in rows]


def test_unmatched_name_lists_what_there_is_nearest_first():
    asked = [parse_filter(t) for t in ("recipe=sft.learning_rate=2e-3", "recipe=sft", "name!=x")]
    (message,) = unmatched(NAMED, asked)
    assert message == (
        "no row has the recipe sft.learning_rate=2e-3; there are: "
        "sft.learning_rate=3e-3, sft.learning_rate=3e-4, sft-d1"
    )
