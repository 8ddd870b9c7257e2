"""What is proposed where a name is not known."""

import pytest

from raylab.errors import InputError
from raylab.spec.merges import request_merge
from raylab.spec.proposals import close_names, hint, listed

RATES = ["sft.learning_rate=3e-3", "sft.learning_rate=3e-4", "sft.learning_rate=1", "dpo"]


@pytest.mark.parametrize(
    ("name", "known", "near"),
    [
        ("sftt", ["sft", "dpo"], ["sft"]),
        ("sft.learning_rat=3e-4", RATES, ["sft.learning_rate=3e-4"]),
        ("sft.learning_rat=0.0003", RATES, ["sft.learning_rate=3e-4"]),
        ("sft.learning_rate=4e-4", RATES, []),
        ("sft.learning_rate=4e-3", RATES, []),
        ("dare", ["ties", "dare_ties", "dare_linear", "linear"], ["dare_ties", "dare_linear"]),
        ("D9", ["D0", "D1", "other"], ["D0", "D1"]),
        ("zzz", ["sft", "dpo"], []),
        ("", ["sft"], []),
    ],
)
def test_close_names_are_the_nearest_and_never_of_other_values(name, known, near):
    assert close_names(name, known) == near


def test_hint_lists_all_by_value_where_none_is_near():
    assert hint("sft.learning_rate=4e-4", RATES) == (
        "known: sft.learning_rate=3e-4, sft.learning_rate=3e-3, sft.learning_rate=1, dpo"
    )
    assert hint("x", []) == "known: none"


def test_listed_of_many_counts_the_rest():
    names = [f"a.lora.r={r}" for r in range(1, 31)]
    text = listed("a.lora.r=1.1", reversed(names))
    assert text.startswith("a.lora.r=1, a.lora.r=2, a.lora.r=3,")
    assert text.endswith(" and 18 more")


def test_request_merge_of_a_family_proposes_its_methods():
    with pytest.raises(InputError, match=r"did you mean dare_ties or dare_linear\?"):
        request_merge("dare", ["a"], base="b")
