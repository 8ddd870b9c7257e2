"""Fingerprints: stable across processes, and refused where there is no stable form."""

import json
import math
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raylab.spec.identity import canonical, changed_fields, fingerprint
from tests.studies import write_study_folder

ROOT = Path(__file__).resolve().parents[2]
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"]))
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner, max_size=4)
    ),
    max_leaves=8,
)


@given(VALUES)
def test_canonical_any_value_reads_back_equal(value):
    assert json.loads(canonical(value)) == value
    assert fingerprint(value) == fingerprint(json.loads(canonical(value)))


@given(st.dictionaries(st.text("abc"), st.integers()))
def test_fingerprint_other_key_order_is_equal(value):
    assert fingerprint(dict(reversed(value.items()))) == fingerprint(value)


@given(VALUES, VALUES)
def test_fingerprint_other_value_differs(left, right):
    if canonical(left) != canonical(right):
        assert fingerprint(left) != fingerprint(right)


def test_fingerprint_form_is_16_hex_digits():
    assert len(fingerprint({"a": 1})) == 16
    int(fingerprint({"a": 1}), 16)


def test_fingerprint_tuple_equals_list():
    assert fingerprint((1, (2,))) == fingerprint([1, [2]])


@pytest.mark.parametrize(
    "value",
    [
        math.nan, math.inf, -math.inf, {1, 2}, frozenset(), object(), b"x", 1j, Path("x"), len,
        {1: "a"}, {None: 1}, [math.nan], {"a": [{"b": {3}}]}, (object(),), range(3), ValueError,
    ],
    ids=lambda value: re.sub(" at 0x[0-9a-f]+", "", repr(value)),
)  # fmt: skip
def test_fingerprint_unstable_value_is_refused(value):
    with pytest.raises(TypeError):
        fingerprint(value)


def test_fingerprint_refusal_names_the_place():
    with pytest.raises(TypeError, match=r"a\[1\]\.b"):
        fingerprint({"a": [0, {"b": math.nan}]})


def test_changed_fields_differences_are_named_in_order():
    old, new = {"b": 1, "a": 1, "gone": 2}, {"a": 1, "b": 2, "new": 3}
    told = list(changed_fields(old, new))
    assert told == ["b: 1 -> 2", "gone: 2 -> absent", "new: absent -> 3"]


CODE = """
import json, sys
from raylab.spec.study_file import load_study
from raylab.plan.trials import plan_trials, read_inputs
study = load_study(sys.argv[1])
print(json.dumps({t.name: t.id for t in plan_trials(study, read_inputs(study))}))
"""


def ids_in_another_process(study, hash_seed):
    environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
    command = [sys.executable, "-c", CODE, str(study)]
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_ids_other_process_hash_seed_and_place_are_equal(tmp_path):
    here = write_study_folder(tmp_path / "one")
    there = write_study_folder(tmp_path / "elsewhere" / "two")
    ids = ids_in_another_process(here, "0")
    assert ids == ids_in_another_process(there, "12345")
    assert len(set(ids.values())) == len(ids) == 10
