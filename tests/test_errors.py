"""Errors cross from workers to the driver."""

import copy
import pickle

import pytest

from raylab import errors

KINDS = [
    kind
    for kind in vars(errors).values()
    if isinstance(kind, type) and issubclass(kind, errors.RaylabError)
]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_errors_pickled_survive(kind, protocol):
    error = kind("何かが違う", found=[0, "x"], expected="a number", todo="write one")
    again = pickle.loads(pickle.dumps(error, protocol))
    assert type(again) is kind
    assert str(again) == str(error) == error.message
    parts = (again.what, again.found, again.expected, again.todo)
    assert parts == ("何かが違う", [0, "x"], "a number", "write one")
    assert (again.exit_status, again.cause) == (kind.exit_status, kind.cause)


@pytest.mark.parametrize("kind", KINDS)
def test_errors_copied_survive(kind):
    assert str(copy.deepcopy(kind("wrong", found=0))) == "wrong\n  found: 0"


def test_message_without_parts_is_one_line():
    assert errors.StudyError("wrong").message == "wrong"


def test_exit_status_of_wrong_input_is_two():
    twos = {kind for kind in KINDS if issubclass(kind, errors.InputError)}
    assert {errors.StudyError, errors.DataError, errors.ModelError, errors.OutError} <= twos
    assert {kind.exit_status for kind in twos} == {2}
    assert {kind.exit_status for kind in set(KINDS) - twos} == {1}
