"""Large imports are loaded without the collector of cycles, which never looks at them again, and
torch only where it is needed."""

import gc
import subprocess
import sys
import threading

import pyarrow as pa
import pytest
from pyarrow import parquet

from raylab.imports import load_aside, loading
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


def test_modules_loaded_aside_are_there_and_one_that_fails_is_passed_over(
    unfrozen, tmp_path, monkeypatch
):
    (tmp_path / "breaks_aside.py").write_text("raise OSError('no such driver')\n")
    (tmp_path / "loads_aside.py").write_text(
        "import threading\nname = threading.current_thread()\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    load_aside(("breaks_aside", "no_such_module", "loads_aside")).join()
    assert not {"breaks_aside", "no_such_module"} & set(sys.modules)
    assert sys.modules.pop("loads_aside").name is not threading.current_thread()
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


def test_rows_of_a_table_are_found_without_pandas(tmp_path):
    rows = [
        {"name": "sft~b", "level": "all", "l2": 2.0},
        {"name": "dpo", "level": "all", "l2": 1.0},
        {"name": "dpo", "level": "tensor", "l2": 3.0},
        {"name": None, "level": None, "l2": None},
    ]
    parquet.write_table(pa.Table.from_pylist(rows), tmp_path / "rows.parquet")
    code = f"""
import sys
from pathlib import Path
from raylab.parquet import read_parquet
from raylab.store.arrow_values import rows_where
from raylab.store.table_query import parse_filter, select, unmatched
table = read_parquet(Path({str(tmp_path)!r}) / "rows.parquet")
print([row["l2"] for row in rows_where(table, "level", "all").to_pylist()])
filters = [parse_filter(text) for text in ("name=dpo", "l2>0.5", "level!=null")]
print(select(table, filters, ["-l2"], ["l2"]).to_pylist())
print(select(table, [parse_filter("name!=dpo")]).num_rows, unmatched(table, filters))
print("pandas" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    expected = ["[2.0, 1.0]", "[{'l2': 3.0}, {'l2': 1.0}]", "1 []", "False"]
    assert done.stdout.splitlines() == expected, done.stderr


def test_threads_that_start_while_torch_is_imported_wait_for_it(tmp_path):
    (tmp_path / "torch.py").write_text(
        "import threading, time\nstarted.set()\ntime.sleep(0.5)\nset_num_threads = print\n"
    )
    code = """
import builtins, sys, threading
builtins.started = threading.Event()
from raylab.weights.row_tiles import Workers
with Workers(2) as workers:
    def work(piece):
        if piece == 0:
            import torch
        else:
            started.wait()
    with Workers(1) as first:
        importing = threading.Thread(target=lambda: first.each([0], work))
        importing.start()
        started.wait()
        workers.each([1], work)
        importing.join()
"""
    sources = f"sys.path.insert(0, {str(tmp_path)!r})"
    command = [sys.executable, "-c", f"import sys; {sources}{code}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "1\n"), done.stderr
