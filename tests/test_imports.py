"""Large imports are loaded without the collector of cycles, which never looks at them again."""

import gc

import pytest

from raylab.imports import loading


@pytest.fixture
def unfrozen():
    yield
    gc.unfreeze()


def test_loading_leaves_what_was_made_out_of_every_later_collection(unfrozen):
    before = gc.get_freeze_count()
    with loading():
        assert not gc.isenabled()
        kept = [[] for _ in range(1000)]
    assert gc.isenabled()
    assert gc.get_freeze_count() >= before + len(kept)


def test_loading_that_fails_leaves_the_collector_at_work(unfrozen):
    with pytest.raises(ImportError), loading():
        raise ImportError("there is no such library")
    assert gc.isenabled()
