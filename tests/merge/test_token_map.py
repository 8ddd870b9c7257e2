"""Tokens to rows: every token is filled by one rule, and every row is accounted for."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from raylab.errors import InputError, ModelError
from raylab.merge import token_map
from raylab.merge.output_vocabulary import Member, OutputVocabulary
from raylab.merge.token_map import map_tokens, token_lines
from raylab.spec.output_tokenizer import OutputTokenizer, TokenRow
from raylab.weights.mapped_rows import MappedRows
from raylab.weights.row_map import FILLED, PADDING, RowMap, runs


def member(name, vocabulary, rows=None, **options):
    """A member with this vocabulary, without files."""
    found = Member(name, Path(name), rows or max(vocabulary.values(), default=-1) + 1, **options)
    vars(found)["known"] = vocabulary
    return found


def mapped(members, ids, *, has_base=True, **asked):
    output = OutputVocabulary(ids, Path(), (), None, 0)
    return map_tokens(OutputTokenizer("union", **asked), members, output, has_base=has_base)


IDS = {"all": 0, "base": 1, "one": 2, "both": 3, "most": 4, "none": 5}
MEMBERS = [
    member("BASE", {"all": 0, "base": 1, "most": 3}, rows=8),
    member("ONE", {"all": 2, "one": 0, "both": 1, "most": 3}),
    member("TWO", {"all": 0, "both": 1, "beyond": 2}, rows=2),
]


def test_map_each_rule_has_its_tokens():
    found = mapped(MEMBERS, IDS)
    assert found.account["filled"] == {"asked": 0, "only": 2, "base": 1, "mean": 1, "zero": 1}
    assert found.account["examples"] == {
        "only": ["base", "one"], "base": ["most"], "mean": ["both"], "zero": ["none"],
    }  # fmt: skip
    assert found.rows.fills == {
        1: ((0, 1),), 2: ((1, 0),), 3: ((1, 1), (2, 1)), 4: ((0, 3),), 5: (),
    }  # fmt: skip
    assert [own.tolist() for own in found.rows.own] == [
        [0, 1, FILLED, FILLED, 3, FILLED],
        [2, FILLED, 0, 1, 3, FILLED],
        [0, FILLED, FILLED, 1, FILLED, FILLED],
    ]


def test_map_without_a_base_model_takes_the_mean_of_what_several_have():
    found = mapped(MEMBERS, IDS, has_base=False)
    assert found.rows.fills[4] == ((0, 3), (1, 3))
    assert found.account["filled"]["base"] == 0


def test_map_member_that_does_not_count_has_no_say():
    members = [member("BASE", {"all": 0, "base": 1}, counts=False), *MEMBERS[1:]]
    found = mapped(members, {"all": 0, "base": 1, "one": 2}, has_base=False)
    assert found.rows.fills[1] == ()
    assert [row["model"] for row in found.account["models"]] == ["ONE", "TWO"]


def test_map_pads_and_leaves_gaps_to_padding():
    found = mapped(MEMBERS, {"all": 0, "one": 5}, pad_to=4)
    assert found.rows.own[1].tolist() == [2, *[PADDING] * 4, 0, PADDING, PADDING]
    assert (found.account["tokens"], found.account["rows"]) == (2, 8)


def test_map_forced_token_has_the_asked_row_in_all():
    found = mapped(MEMBERS, IDS, tokens={"all": TokenRow("ONE", "one", force=True)})
    assert [own[0] for own in found.rows.own] == [FILLED] * 3
    assert found.rows.fills[0] == ((1, 0),)
    assert found.account["filled"]["asked"] == 1
    assert "1 with a row that was asked for" in token_lines(found.account)[0]


@pytest.mark.parametrize(
    ("row", "error", "named"),
    [
        (TokenRow("THREE"), InputError, "not merged"),
        (TokenRow("ONE", "dog"), ModelError, "'dog'"),
        (TokenRow("TWO", "beyond"), ModelError, "'beyond'"),
        (TokenRow("TWO", 2), ModelError, "below 2"),
        (TokenRow("TWO"), ModelError, "'one'"),
    ],
)
def test_map_row_that_does_not_exist_is_refused(row, error, named):
    with pytest.raises(error) as refused:
        mapped(MEMBERS, IDS, tokens={"one": row})
    assert named in refused.value.message


TOKENS = st.sampled_from([f"t{i}" for i in range(9)])
VOCABULARIES = st.lists(TOKENS, unique=True, min_size=1, max_size=9)


@given(
    st.lists(st.tuples(VOCABULARIES, st.integers(0, 3)), min_size=1, max_size=4),
    VOCABULARIES,
    st.booleans(),
    st.integers(1, 5),
)
def test_map_any_vocabularies_account_for_every_row(models, output, has_base, pad_to):
    members = [
        member(f"m{i}", {token: id for id, token in enumerate(tokens)}, rows=len(tokens) + more)
        for i, (tokens, more) in enumerate(models)
    ]
    ids = {token: id for id, token in enumerate(output)}
    found = mapped(members, ids, has_base=has_base, pad_to=pad_to)
    account = found.account
    assert account["tokens"] == account["in_all"] + sum(account["filled"].values()) == len(ids)
    assert account["rows"] == account["tokens"] + account["padding"]
    assert account["rows"] % pad_to == 0
    for row, own, own_member in zip(account["models"], found.rows.own, members, strict=True):
        assert row["rows"] == row["used"] + row["left_out"]
        for token, id in ids.items():
            assert own[id] == own_member.vocabulary.get(token, FILLED)
            assert own[id] >= 0 or id in found.rows.fills


@given(st.lists(st.integers(-2, 6), max_size=12))
def test_runs_give_every_row_once_at_its_place(rows):
    found = np.full(len(rows), FILLED)
    for at, first, count in runs(np.array(rows, dtype=np.int64)):
        assert count > 0
        found[at : at + count] = np.arange(first, first + count)
    assert found.tolist() == [row if row >= 0 else FILLED for row in rows]


class Matrix:
    """A model of one vector with an entry for every token: a head's bias."""

    def __init__(self, values):
        self.shapes = {"lm_head.bias": (len(values),)}
        self._values, self.is_checkpoint = np.array([values], np.float32), True
        self.checkpoint = None

    def stored_name(self, name):
        return name

    def stored(self, name, start, stop):
        return self._values[start:stop]


def test_mapped_vector_has_an_entry_for_every_token():
    row_map = RowMap((np.array([0, FILLED, PADDING]), np.array([1, 0, PADDING])), {1: ((1, 0),)})
    found = MappedRows(row_map, Matrix([1.0, 2.0]), [Matrix([3.0, 5.0])])
    assert found.values(0, "lm_head.bias", 0, 1).tolist() == [[1.0, 3.0, 2.0]]
    assert found.values(1, "lm_head.bias", 0, 1).tolist() == [[5.0, 3.0, 4.0]]


def test_rules_end_with_one_that_always_applies():
    *_, last = token_map.RULES
    assert last == "zero"
