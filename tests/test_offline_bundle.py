"""The bundle for a machine without a network: what it refuses, what it checks, and a real one."""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import sys
from importlib.metadata import distribution
from pathlib import Path
from zipfile import ZipFile

import pytest

ROOT = Path(__file__).parents[1]
BUNDLE = ROOT / "jobs" / "offline_bundle.sh"
PARTS = ROOT / "jobs" / "offline_bundle"
HERE = "{}.{}".format(*sys.version_info[:2])
LARGEST_PART = 40


def done(*words, **options):
    command = [str(word) for word in words]
    return subprocess.run(command, capture_output=True, text=True, check=False, **options)


def tool(name, *words):
    return done(sys.executable, PARTS / name, *words)


REFUSED = {
    "no OUT": ([], "OUT is missing"),
    "two OUTs": (["{out}", "b"], "more than one OUT"),
    "unknown option": (["{out}", "--size", "3"], "no such option"),
    "option without value": (["{out}", "--python"], "an option has no value"),
    "Python 2": (["{out}", "--python", "2.7"], "no version of Python"),
    "patch of Python": (["{out}", "--python", "3.12.3"], "no version of Python"),
    "words for CUDA": (["{out}", "--cuda", "cu130"], "no version of CUDA"),
    "words for glibc": (["{out}", "--glibc", "new"], "no version of glibc"),
    "parts of nothing": (["{out}", "--part-mib", "0"], "no size of a part"),
    "no list": (["{out}", "--have", "/nowhere"], "cannot be read"),
    "list of a lock file": (["{out}", "--have", "{have}"], "line 2"),
}


@pytest.mark.parametrize(("words", "says"), REFUSED.values(), ids=REFUSED)
def test_bundle_of_wrong_arguments_is_refused_before_anything_is_made(tmp_path, words, says):
    have, out = tmp_path / "have.txt", tmp_path / "out"
    have.write_text("torch==2.11.0\nnumpy @ file:///x\n")
    ended = done("bash", BUNDLE, *(word.format(out=out, have=have) for word in words))
    assert (ended.returncode, ended.stdout) == (2, "")
    assert says in ended.stderr
    assert not out.exists()


@pytest.mark.parametrize("script", ["offline_bundle.sh", "offline_bundle/unpack.sh"])
def test_folder_that_holds_something_is_refused_and_kept(tmp_path, script):
    (tmp_path / "mine").write_text("kept")
    ended = done("bash", ROOT / "jobs" / script, tmp_path)
    assert ended.returncode == 2
    assert "is there already" in ended.stderr and str(tmp_path) in ended.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def test_unpack_for_another_python_is_refused(tmp_path):
    script = (PARTS / "unpack.sh").read_text().replace("@PYTHON@", "3.7")
    (tmp_path / "unpack.sh").write_text(script)
    folder = tmp_path / "new"
    ended = done("bash", tmp_path / "unpack.sh", folder, "--python", sys.executable)
    assert ended.returncode == 2
    assert f"found: {HERE} x86_64" in ended.stderr and "expected: 3.7 x86_64" in ended.stderr
    assert not folder.exists()


def package(site, name, version, *needs):
    """The metadata of an installed package."""
    folder = site / f"{name}-{version}.dist-info"
    folder.mkdir(parents=True)
    lines = ["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}"]
    lines += [f"Requires-Dist: {need}" for need in needs]
    (folder / "METADATA").write_text("\n".join([*lines, "", ""]))


def test_check_names_what_is_missing_or_does_not_fit(tmp_path):
    site, have = tmp_path / "site", tmp_path / "have.txt"
    package(site, "raylab", "1", "ray[web]", "Torch_x>=2", "none; python_version < '3.12'")
    package(site, "ray", "2.60", "idna>=3", "gone; extra == 'web'", "other; extra == 'more'")
    package(site, "alone", "1", "nobody")
    have.write_text("# a machine\ntorch.x==1.9+cu130\nidna==3.1\n")
    ended = tool("bundle_check.py", site, "--have", have, "--python", "3.12")
    assert ended.returncode == 1
    assert ended.stderr.splitlines() == [
        "offline_bundle: ray needs gone, which is missing",
        "offline_bundle: raylab needs Torch_x>=2, there is 1.9+cu130",
    ]
    have.write_text("torch.x==2.0\nidna==3.1\ngone==1\n")
    assert tool("bundle_check.py", site, "--have", have, "--python", "3.12").returncode == 0
    older = tool("bundle_check.py", site, "--have", have, "--python", "3.11")
    assert "raylab needs none, which is missing" in older.stderr


def test_stubs_pin_the_machine_and_keep_other_constraints(tmp_path):
    have, constraints = tmp_path / "have.txt", tmp_path / "constraints.txt"
    have.write_text("Torch==2.11.0+cu130\nhuggingface_hub==1.33.0\n")
    constraints.write_text("# pins\nhuggingface-hub==2.4.0\nray==2.60.0\ntorch==2.13.0\n")
    ended = tool("prepare.py", "stubs", have, constraints, tmp_path)
    pins = ["torch==2.11.0+machine", "huggingface-hub==1.33.0+machine", "ray==2.60.0"]
    assert ended.stdout.splitlines() == pins
    wheels = sorted(tmp_path.glob("*.whl"))
    assert [wheel.name.partition("-py3")[0] for wheel in wheels] == [
        "huggingface_hub-1.33.0+machine",
        "torch-2.11.0+machine",
    ]
    assert not [n for n in ZipFile(wheels[0]).namelist() if ".dist-info/" not in n]


def test_trim_keeps_one_cuda_and_refuses_one_that_is_not_there(tmp_path):
    libraries = tmp_path / "bitsandbytes"
    libraries.mkdir()
    for kind in ("cpu", "cuda128", "cuda130", "rocm72"):
        (libraries / f"libbitsandbytes_{kind}.so").touch()
    (tmp_path / "ray" / "jars").mkdir(parents=True)
    (tmp_path / "ray" / "jars" / "x.jar").write_bytes(b"x" * 200_000)
    refused = tool("prepare.py", "trim", tmp_path, PARTS / "left_out.txt", "11.8")
    assert (refused.returncode, len(list(libraries.iterdir()))) == (2, 4)
    assert "expected: one of 12.8, 13.0" in refused.stderr
    ended = tool("prepare.py", "trim", tmp_path, PARTS / "left_out.txt", "13.0")
    assert ended.returncode == 0 and "0.2 MB  ray/jars" in ended.stdout
    assert {path.name for path in libraries.iterdir()} == {
        "libbitsandbytes_cpu.so",
        "libbitsandbytes_cuda130.so",
    }
    assert list((tmp_path / "ray").iterdir()) == []


def test_raylab_runs_as_a_module():
    ended = done(sys.executable, "-m", "raylab", "--help", cwd=ROOT)
    assert ended.returncode == 0 and "Train a study" in ended.stdout


@pytest.mark.long
def test_bundle_holds_what_a_machine_lacks_and_unpacks_only_whole(tmp_path):
    out, folder = tmp_path / "out", tmp_path / "raylab"
    made = done("bash", BUNDLE, out, "--python", HERE, "--part-mib", LARGEST_PART)
    assert made.returncode == 0, made.stderr[-3000:]
    assert done("bash", BUNDLE, out).returncode == 2
    parts = sorted(out.glob("raylab.tar.xz.*"))
    assert len(parts) > 1
    assert all(part.stat().st_size <= LARGEST_PART * 2**20 for part in parts)
    sums = dict(re.findall(r"^(\w{64})  \./(.+)$", (out / "SHA256SUMS").read_text(), re.M))
    files = {path.name: path for path in out.iterdir() if path.name != "SHA256SUMS"}
    assert {hashlib.sha256(path.read_bytes()).hexdigest() for path in files.values()} == set(sums)

    unpack = ["bash", out / "unpack.sh", folder, "--python", sys.executable]
    whole = parts[-1].read_bytes()
    parts[-1].write_bytes(whole[:-1])
    damaged = done(*unpack)
    assert damaged.returncode == 2 and "damaged" in damaged.stderr and not folder.exists()
    parts[-1].write_bytes(whole)
    unpacked = done(*unpack)
    assert unpacked.returncode == 0, unpacked.stderr
    site = folder / "site-packages"
    assert f"export PYTHONPATH={site}" in unpacked.stdout

    names = {path.name.partition("-")[0] for path in site.glob("*.dist-info")}
    brought = {"raylab", "ray", "trl", "bitsandbytes", "datasets", "pyarrow", "altair"}
    assert brought <= names
    assert not {n for n in names if n.startswith(("torch", "nvidia", "numpy", "transformers"))}
    tag = f"cpython-{HERE.replace('.', '')}-"
    built = [path.name for path in site.rglob("*.cpython-*.so")]
    assert built and all(tag in name for name in built)
    environment = {**os.environ, "PYTHONPATH": str(site)}
    code = "import ray, pyarrow.parquet, bitsandbytes, datasets, trl; print(ray.__file__)"
    ran = done(sys.executable, "-c", code, env=environment, cwd=tmp_path)
    assert ran.stdout.strip() == str(site / "ray" / "__init__.py"), ran.stderr[-3000:]
    plan = ["-m", "raylab", "plan", ROOT / "jobs/demo/study-quick.yaml", "--out", tmp_path / "runs"]
    planned = done(sys.executable, *plan, env=environment, cwd=tmp_path)
    assert planned.returncode == 0, planned.stderr
    ray = distribution("ray").version
    assert done(site / "bin" / "ray", "--version", env=environment).stdout.strip().endswith(ray)
