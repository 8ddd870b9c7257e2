"""Large imports are loaded without the collector of cycles, which never looks at them again, and
torch only where it is needed."""

import gc
import subprocess
import sys

import pytest

from raylab.imports import loading
from tests.merge.models import drawn, saved


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


def test_diff_and_merge_of_checkpoints_need_no_torch(tmp_path):
    paths = [str(saved(tmp_path / name, drawn(seed))) for seed, name in enumerate(("base", "a"))]
    verbs = [["diff", *paths, "--json"]]
    verbs += [
        ["merge", method, "--base", paths[0], "--model", paths[1], "--out", str(tmp_path / method)]
        for method in ("ties", "linear", "ram")
    ]
    for words in verbs:
        code = f"import sys; from raylab.cli.app import call; call({words!r}, debug=True)"
        # The verb ends the process, so what it imported is said on the way out.
        code = f"import atexit, sys; atexit.register(lambda: print('torch' in sys.modules)); {code}"
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout.splitlines()[-1] == "False", words
