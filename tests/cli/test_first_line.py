"""The first line of a command comes before anything that takes long."""

from __future__ import annotations

import json
import signal
import subprocess
import sys

import pytest

from tests.commands import exit_status

# The modules that are loaded when the first line is written.
WATCH = """
import json, sys
class Watch:
    def write(self, text):
        if not hasattr(self, "found"):
            self.found = sorted(m for m in sys.modules if "." not in m)
            self.text = text
    def flush(self): pass
    def isatty(self): return False
watch, real = Watch(), sys.stderr
sys.stderr = watch
from raylab.cli import main
try:
    main(sys.argv[1:])
except SystemExit:
    pass
print(json.dumps([watch.text, watch.found]))
"""
SLOW = {"torch", "ray", "numpy", "pyarrow", "pydantic", "typer", "rich", "transformers", "pandas"}


@pytest.mark.parametrize("verb", ["run", "train", "reduce"])
def test_first_line_is_there_before_any_library_is_loaded(verb, tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", WATCH, verb, str(tmp_path / "none.yaml")],
        capture_output=True,
        text=True,
        check=True,
    )
    text, modules = json.loads(done.stdout.splitlines()[-1])
    assert text == "loading libraries"
    assert SLOW & set(modules) == set()


def test_first_line_is_missing_where_nothing_takes_long(tmp_path, capsys):
    assert exit_status("plan", tmp_path / "none.yaml") == 2
    assert exit_status("run", "--help") == 0
    assert "loading" not in capsys.readouterr().err


def test_termination_in_a_command_is_an_interruption_and_left_as_it_was_after_it(
    tmp_path, monkeypatch, capsys
):
    before = signal.getsignal(signal.SIGTERM)

    def interrupted(file):
        signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr("raylab.cli.study.load_study", interrupted)
    assert exit_status("run", tmp_path / "none.yaml") == 1
    assert "raylab: interrupted; the same command goes on from here" in capsys.readouterr().err
    assert signal.getsignal(signal.SIGTERM) is before
