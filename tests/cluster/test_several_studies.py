"""A smaller study over a larger OUT, and one of another name: nothing vanishes in silence."""

from __future__ import annotations

import shutil

import pytest

from raylab.store.filesystem import Store
from raylab.store.tables import read_table
from tests.cluster.test_renamed import contents, raylab
from tests.conftest import DEMO, QUICK_STUDY

pytestmark = pytest.mark.cluster

PARENT, CHILD = "demo.sft-d1.s42", "demo.dpo-d0-after-sft-d1.s42"


def write_study(folder, name, *, small):
    """The quick study under a name, `small` without its second recipe."""
    lines = QUICK_STUDY.read_text().replace("path: ", f"path: {DEMO}/").splitlines()
    if small:
        lines = [line for line in lines if "dpo-d0" not in line and line != "connectivity:"]
    text = "\n".join([*lines, ""]).replace("name: demo-quick", f"name: {name}")
    file = folder / f"{name}-{'small' if small else 'large'}.yaml"
    file.write_text(text)
    return file


def names_in(out):
    return [row["name"] for row in read_table(Store(str(out)), "trials").to_pylist()]


@pytest.fixture
def out(quick, tmp_path):
    """A copy of the OUT of the quick study."""
    shutil.copytree(quick[0], tmp_path / "out")
    return tmp_path / "out"


def test_smaller_study_of_the_same_name_says_what_it_leaves_out(local_ray, out, tmp_path):
    small = write_study(tmp_path, "demo-quick", small=True)
    large = write_study(tmp_path, "demo-quick", small=False)
    for _ in range(2):
        done = raylab("run", small, "--out", out)
        assert done.returncode == 0, done.stderr
        assert names_in(out) == [PARENT]
        assert "1 finished result that the study demo-quick does not have" in done.stderr
        assert CHILD in done.stderr
    page = (out / "report" / "report.md").read_text()
    assert f"none of these tables: {CHILD}" in page.replace("**", "").replace("\\", "")
    done = raylab("report", large, "--out", out)
    assert done.returncode == 0, done.stderr
    assert f"lack 1 of 2 rows ({CHILD})" in done.stderr
    done = raylab("run", large, "--out", out)
    assert "nothing to train" in done.stderr and "leave" not in done.stderr
    assert names_in(out) == [PARENT, CHILD]


def test_study_of_another_name_keeps_the_tables_and_report_of_the_first(local_ray, out, tmp_path):
    small = write_study(tmp_path, "little", small=True)
    large = write_study(tmp_path, "demo-quick", small=False)
    trials, page = contents(out), (out / "report" / "report.md").read_bytes()
    assert raylab("report", large, "--out", out, "--lang", "ja").returncode == 0
    refused = raylab("report", small, "--out", out)
    assert refused.returncode == 2 and "demo-quick" in refused.stderr
    done = raylab("run", small, "--out", out)
    assert done.returncode == 0, done.stderr
    assert f"{CHILD} (demo-quick)" in done.stderr
    first = out / "studies" / "demo-quick"
    assert (names_in(out), names_in(first)) == ([PARENT], [PARENT, CHILD])
    assert f"the study demo-quick ran before; its report: {first}/report" in done.stderr
    assert (first / "report" / "report.ja.html").is_file()
    assert not (out / "report" / "report.ja.html").exists()
    moved = (first / "report" / "report.md").read_bytes()
    assert moved == page.replace(f"{out}/".encode(), f"{first}/".encode())

    english = (first / "report" / "report.html").read_bytes()
    done = raylab("report", large, "--out", out, "--lang", "ja")
    assert f"{first}/report/report.ja.html" in done.stdout.replace("\n", "")
    assert (first / "report" / "report.html").read_bytes() == english
    assert raylab("diff", f"{out}#{CHILD}", f"{out}#{PARENT}").returncode == 0

    done = raylab("run", large, "--out", out)
    assert (done.returncode, "nothing to train" in done.stderr) == (0, True), done.stderr
    assert names_in(out) == [PARENT, CHILD]
    assert not first.exists() and names_in(out / "studies" / "little") == [PARENT]
    assert contents(out) == trials
