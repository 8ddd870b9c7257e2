"""What the entry points of jobs say beside the log of the command itself."""

from __future__ import annotations

import pytest

from raylab.cli.job import STOP_WAIT, missing_files, run_in_job
from tests.studies import write_study_folder


@pytest.fixture
def study(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return write_study_folder(tmp_path / "mine")


def test_files_that_did_not_travel_are_those_that_the_study_names(study, tmp_path):
    words = [str(study), "--out", "/shared/out"]
    assert list(missing_files(words, tmp_path)) == []
    (tmp_path / "mine" / "d1.jsonl").unlink()
    assert list(missing_files(words, tmp_path)) == ["mine/d1.jsonl"]
    assert list(missing_files(words, tmp_path / "elsewhere")) == []
    study.unlink()
    assert list(missing_files(words, tmp_path)) == ["mine/study.yaml"]
    assert list(missing_files(["--out", "x"], tmp_path)) == []


def test_job_whose_file_did_not_travel_says_so_after_the_commands_own_message(
    study, tmp_path, monkeypatch, capsys
):
    monkeypatch.setenv(STOP_WAIT, "600")
    (tmp_path / "mine" / "d1.jsonl").unlink()
    with pytest.raises(SystemExit) as end:
        run_in_job("run", ["mine/study.yaml", "--out", str(tmp_path / "out")])
    assert end.value.code == 2
    said = capsys.readouterr().err
    own, _, more = said.partition("raylab: this job")
    assert "the file is not there" in own and "mend or remove these rows" not in own
    assert "found: not there: mine/d1.jsonl\n" in more
    assert "RAY_RUNTIME_ENV_IGNORE_GITIGNORE=1" in more
    assert "ray job stop" not in said


@pytest.mark.parametrize(("wait", "says"), [(None, "3 s"), ("5", "5 s"), ("600", None)])
def test_job_says_how_long_a_stop_waits_where_that_is_short(
    study, tmp_path, monkeypatch, capsys, wait, says
):
    monkeypatch.delenv(STOP_WAIT, raising=False)
    if wait:
        monkeypatch.setenv(STOP_WAIT, wait)
    with pytest.raises(SystemExit):
        run_in_job("run", ["none.yaml"])
    said = capsys.readouterr().err
    assert (f"`ray job stop` gives this job {says}" in said) == (says is not None)
    assert ("ray job stop" in said) == (says is not None)
