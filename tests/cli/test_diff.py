"""`raylab diff` as a user meets it: one document, one message, exit statuses."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
import torch

from raylab.store.filesystem import Store
from raylab.store.tables import read_table
from tests.commands import exit_status
from tests.reduce.models import (
    EMBED,
    Q0,
    Q10,
    SHAPES,
    random_factors,
    random_weights,
    write_adapter,
    write_checkpoint,
    write_store,
)

ALL = sum(torch.Size(shape).numel() for shape in SHAPES.values())


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Directories by name: checkpoints, sound and broken, and adapters."""
    path = tmp_path_factory.mktemp("models")
    broken = random_weights(2)
    broken[Q0][0, 0] = float("nan")
    checkpoints = {
        "base": random_weights(0),
        "one": random_weights(1),
        "two": random_weights(2),
        "nan": broken,
        "part": random_weights(2, shapes={Q10: None}),
        "short": random_weights(2, shapes={EMBED: (32, 24)}),
        "other": random_weights(2, shapes={Q0: (24, 48)}),
    }
    for name, tensors in checkpoints.items():
        write_checkpoint(path / name, tensors)
    for seed, name in enumerate(("first", "second")):
        write_adapter(path / name, random_factors(seed))
    cut = write_checkpoint(path / "cut", checkpoints["two"]) / "model.safetensors"
    cut.write_bytes(cut.read_bytes()[:-1])
    pickled = write_checkpoint(path / "pickled", checkpoints["two"])
    (pickled / "model.safetensors").unlink()
    (pickled / "pytorch_model.bin").write_bytes(b"\x80\x04.")
    (path / "empty").mkdir()
    return path


@pytest.fixture
def diff(models, capfd, monkeypatch):
    """Runs `raylab diff` in this process, in the models' folder: (exit status, stdout, stderr)."""
    monkeypatch.chdir(models)

    def run(*words):
        status = exit_status("diff", *words)
        said = capfd.readouterr()
        return status, said.out, said.err

    return run


@pytest.fixture
def document(diff):
    def run(*words):
        status, out, err = diff(*words, "--json")
        assert (status, err) == (0, "")
        return json.loads(out, parse_constant=lambda word: pytest.fail(f"{word} is no JSON"))

    return run


def test_json_is_one_document_with_the_fields_of_the_contract(document):
    found = document("one", "two", "--base", "base", "--density", "0.25", "--density", "0.1")
    assert (found["a"], found["b"]) == ("one", "two")
    assert (found["view"], found["universe"], found["numel"]) == ("delta", "compared", ALL)
    assert set(found["norms"]) == {
        "l1", "l2", "linf", "nonzero", "moved", "tolerance", "relative_l2",
    }  # fmt: skip
    assert [row["density"] for row in found["densities"]] == [0.25, 0.1]
    assert [row["num_keep"] for row in found["densities"]] == [ALL // 4, ALL // 10]
    columns = {"density", "num_keep", "threshold", "at_or_above", "l1", "l2"}
    assert all(set(row) == columns for row in found["densities"])
    columns = {"key", "module", "numel", "l1", "l2", "linf", "nonzero", "moved"}
    assert all(set(row) == columns for row in found["layers"])
    assert sum(row["numel"] for row in found["layers"]) == ALL
    assert set(found["base"]) == {"cosine", "sign_agreement", "l2_a", "l2_b"}
    assert found["accounting"] == {
        "compared": ALL, "tied": 0, "only_in_a": 0, "only_in_b": 0, "cropped": 0, "skipped": 0,
        "non_finite": 0,
    }  # fmt: skip
    assert found["seconds"] > 0 and found["bytes_read"] > 0
    assert "base" not in document("one", "two")
    assert [row["density"] for row in document("one", "two")["densities"]] == [0.1, 0.2, 0.5, 1.0]


@pytest.mark.parametrize(
    ("words", "counts"),
    [
        (("one", "part", "--missing", "skip"), {"only_in_a": 48 * 24}),
        (("part", "one", "--missing", "skip"), {"only_in_b": 48 * 24}),
        (("one", "short", "--mismatch", "crop"), {"cropped": 8 * 24}),
        (("one", "other", "--mismatch", "skip"), {"skipped": 48 * 24}),
        (("one", "nan", "--non-finite", "skip"), {"non_finite": 1}),
        (("one", "nan", "--non-finite", "skip", "--base", "base"), {"non_finite": 1}),
        (("first", "second", "--universe", "model", "--base", "base"), {}),
        (("first", "one", "--base", "base"), {}),
        (("first", "short", "--mismatch", "crop", "--base", "base"), {"cropped": 8 * 24}),
        (("first", "part", "--missing", "skip", "--base", "base"), {"only_in_a": 48 * 24}),
    ],
)
def test_every_entry_is_accounted_for_under_every_option(document, words, counts):
    found = document(*words)["accounting"]
    assert sum(found.values()) == ALL
    assert {key: n for key, n in found.items() if n and key != "compared"} == counts


def test_views_of_adapters_take_the_base_that_is_named(document):
    plain, merged = (
        document("first", "second", "--base", "base", "--view", view)
        for view in ("delta", "merged")
    )
    assert (plain["view"], merged["view"]) == ("delta", "merged")
    assert merged["norms"]["l2"] == pytest.approx(plain["norms"]["l2"], rel=0.05)
    assert merged["norms"]["l2"] != plain["norms"]["l2"]


def test_trials_of_a_study_bring_their_base_model_and_quantization(document, models, tmp_path):
    trials = {"tiny.sft.s1": ("a" * 16, "tiny", None, models / "first")}
    out = write_store(tmp_path / "out", trials, {"tiny": models / "base"})
    found = document(f"{out}#tiny.sft.s1", f"{out}#tiny", "--view", "dequantized")
    assert (found["a"], found["view"]) == (f"{out}#tiny.sft.s1", "dequantized")
    assert found["norms"]["l2"] > 0 and found["norms"]["relative_l2"] > 0


def test_threads_leave_no_trace(document):
    found = [document("one", "two", "--base", "base", "--threads", n) for n in (1, 2, 3)]
    assert [{**made, "seconds": 0} for made in found] == [{**found[0], "seconds": 0}] * 3


def test_table_for_people_shows_norms_densities_layers_and_accounting(diff, document):
    status, out, _ = diff("one", "two")
    assert status == 0
    for word in ("l2", "relative_l2", "density", "threshold", "q_proj", "compared", "bytes read"):
        assert word in out
    assert f"{document('one', 'two')['norms']['l2']:.4g}"[:5] in out


def test_out_holds_the_document_and_its_tables(diff, tmp_path):
    status, printed, _ = diff("one", "two", "--out", tmp_path / "out", "--json")
    store = Store(str(tmp_path / "out"))
    assert status == 0
    assert json.loads(store.read("diff.json")) == json.loads(printed)
    rows = {name: read_table(store, name).num_rows for name in ("norms", "densities", "curve")}
    assert rows["densities"] == 4 and rows["curve"] == 512 and rows["norms"] > len(SHAPES)


def test_out_has_a_page_in_the_language_that_is_asked_for(diff, document, tmp_path):
    out = tmp_path / "out"
    for words, name in (((), "diff.html"), (("--lang", "ja"), "diff.ja.html")):
        status, _, err = diff("one", "two", "--base", "base", "--out", out, "--json", *words)
        assert (status, err) == (0, f"page: {out}/{name}\n")
    l2 = document("one", "two")["norms"]["l2"]
    text = (out / "diff.html").read_text(encoding="utf-8")
    assert f"The two models are {l2:.3g} apart" in text


LOADED = """
import sys
from raylab.cli import main
try:
    main(sys.argv[1:])
finally:
    slow = {"altair", "vl_convert", "jinja2", "fluent", "raylab.report.page", "numba", "scipy"}
    print(sorted(slow & set(sys.modules)))
"""


def test_without_out_no_library_of_the_report_is_loaded(models, document):
    document("one", "two")  # From here on the machine code of the loops is kept.
    command = [sys.executable, "-c", LOADED, "diff", str(models / "one"), str(models / "two")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "[]"


BAD = {
    "unknown reference": (("one", "nowhere"), ("nowhere", "OUT#name")),
    "unknown hub id": (("one", "some/model"), ("some/model", "hf download")),
    "unknown study": (("one", "one#trial"), ("no study",)),
    "empty directory": (("one", "empty"), ("empty", "no weights")),
    "truncated file": (("one", "cut"), ("cut", "whole safetensors file")),
    "pickle": (("one", "pickled"), ("pytorch_model.bin", "safetensors")),
    "pickle as base": (("one", "two", "--base", "pickled"), ("pytorch_model.bin",)),
    "adapter as base": (("one", "two", "--base", "first"), ("no base model",)),
    "missing tensor": (("one", "part"), (Q10, "--missing skip")),
    "two shapes": (("one", "other"), (Q0, "--mismatch")),
    "shorter vocabulary": (("one", "short"), (EMBED, "--mismatch crop")),
    "not finite": (("nan", "two"), (Q0, "--non-finite skip")),
    "adapter against checkpoint": (("first", "one"), ("--base",)),
    "base that does not fit": (("one", "two", "--base", "short"), (EMBED, "(32, 24)")),
    "merged without base": (("first", "second", "--view", "merged"), ("--base",)),
    "dequantized without settings": (
        ("first", "second", "--view", "dequantized", "--base", "base"),
        ("quantised", "OUT#name"),
    ),
    "universe without base": (("first", "second", "--universe", "model"), ("--base",)),
    "density 0": (("one", "two", "--density", "0"), ("density", "(0, 1]")),
    "density above 1": (("one", "two", "--density", "1.01"), ("1.01",)),
    "density nan": (("one", "two", "--density", "nan"), ("density", "nan")),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_exits_2_with_one_message_and_writes_nothing(diff, tmp_path, case):
    words, parts = BAD[case]
    status, out, err = diff(*words, "--json", "--out", tmp_path / "out")
    assert (status, out) == (2, "")
    assert err.startswith("raylab: ") and err.count("raylab: ") == 1
    assert "expected: " in err
    for part in parts:
        assert part in err
    assert "Traceback" not in err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "words",
    [
        ("one",),
        ("one", "two", "three"),
        ("one", "two", "--view", "rotated"),
        ("one", "two", "--universe", "all"),
        ("one", "two", "--missing", "crop"),
        ("one", "two", "--threads", "0"),
        ("one", "two", "--density", "many"),
        ("one", "two", "--verbose"),
    ],
)
def test_options_that_are_no_options_exit_2(diff, words):
    status, out, err = diff(*words, "--json")
    assert (status, out) == (2, "")
    assert "Usage" in err and "Traceback" not in err


def test_out_that_cannot_be_written_exits_2(diff, tmp_path):
    (tmp_path / "file").write_text("")
    status, out, err = diff("one", "two", "--out", tmp_path / "file" / "out", "--json")
    assert (status, out) == (2, "")
    assert "OUT cannot be written" in err


def test_command_prints_nothing_but_the_document_and_needs_no_ray(models):
    script = (
        "import sys; from raylab.cli import main\n"
        "try: main(sys.argv[1:])\n"
        "except SystemExit as end: assert not end.code, end.code\n"
        "heavy = {'ray', 'transformers', 'peft', 'datasets', 'pandas'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    words = ["diff", "first", "one", "--base", "base", "--json"]
    done = subprocess.run(
        [sys.executable, "-c", script, *words], cwd=models, capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["numel"] == ALL
