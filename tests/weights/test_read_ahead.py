"""Rows that were read ahead are those of the file, whatever the system offers."""

import os

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from raylab.errors import ModelError
from raylab.weights import read_ahead, uncached
from raylab.weights.safetensors_reader import MappedFile

ROWS = torch.arange(600, dtype=torch.float32).reshape(100, 6)


@pytest.fixture(params=["mapped", "past the cache", "without the flag"])
def opened(request, tmp_path, monkeypatch):
    """A file as it is read where it fits in memory, and where it does not."""
    if request.param != "mapped":
        monkeypatch.setattr(read_ahead, "_OF_MEMORY", 0)
    if request.param == "without the flag":
        # No system knows this one.
        monkeypatch.setattr(uncached, "_DONTCACHE", 1 << 30)
    save_file({"a": ROWS}, tmp_path / "model.safetensors")
    return MappedFile(tmp_path / "model.safetensors")


def test_rows_that_were_asked_for_ahead_are_those_of_the_file(opened):
    bounds = [(0, 10), (10, 11), (90, 100), (10, 90), (10, 11), (5, 5)]
    for start, stop in bounds:
        opened.will_need("a", start, stop)
    found = [opened.rows("a", *each) for each in bounds]
    for (start, stop), rows in zip(bounds, found, strict=True):
        assert np.array_equal(rows, ROWS[start:stop].numpy())
        assert not rows.flags.writeable
    # Memory that was lent for rows that are still in use is not lent again.
    opened.will_need("a", 0, 90)
    assert opened.rows("a", 0, 90)[-1, 0] == ROWS[89, 0]
    assert np.array_equal(found[0], ROWS[:10].numpy())


def test_rows_of_a_file_that_became_shorter_are_an_error(tmp_path, monkeypatch):
    monkeypatch.setattr(read_ahead, "_OF_MEMORY", 0)
    path = tmp_path / "model.safetensors"
    save_file({"a": ROWS}, path)
    opened = MappedFile(path)
    os.truncate(path, 1000)
    opened.will_need("a", 90, 100)
    with pytest.raises(ModelError, match="cannot be read"):
        opened.rows("a", 90, 100)


def test_no_more_is_read_ahead_than_memory_is_meant_for(tmp_path, monkeypatch):
    monkeypatch.setattr(read_ahead, "_OF_MEMORY", 0)
    monkeypatch.setattr(read_ahead, "_MOST_HELD", 0)
    save_file({"a": ROWS}, tmp_path / "model.safetensors")
    opened = MappedFile(tmp_path / "model.safetensors")
    opened.will_need("a", 0, 10)
    assert np.array_equal(opened.rows("a", 0, 10), ROWS[:10].numpy())
