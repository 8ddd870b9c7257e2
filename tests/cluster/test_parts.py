"""What a reduction keeps: only what is missing is computed, and the tables are those of a
reduction from nothing."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch

from raylab.cluster import reduction, stages, study_parts, unreadable
from raylab.reduce.decomposition import ShortSide
from raylab.reduce.job import InProcess
from raylab.store.filesystem import Store
from raylab.store.parts import Parts
from raylab.store.tables import read_table, rows_of
from raylab.weights import Checkpoint
from raylab.weights.safetensors_reader import MappedFile
from tests.cluster.whole import context_of
from tests.conftest import QUICK_STUDY
from tests.reduce.models import write_adapter

STUDY = QUICK_STUDY.read_text(encoding="utf-8").partition("comparisons:")[0]


class Counting(InProcess):
    """The jobs that were done: pairs, models whose norms are taken, models related to all, models
    in detail, models against the base model's directions."""

    def __init__(self):
        super().__init__()
        self.pairs, self.fresh, self.detailed, self.against = [], [], [], []
        self.measured, self.methods = set(), []

    def __call__(self, job, calls):
        self.methods.append(calls[0].method)
        if calls[0].method == "sample":
            self.measured |= {key for pair in job.measured_pairs for key in (pair.a, pair.b)}
            self.pairs += [pair.name for pair in job.pairs]
            self.fresh += sorted(job.fresh or ())
        if calls[0].method == "detail":
            self.detailed += job.vectors
        if calls[0].method == "intruders":
            self.against += job.vectors
        return super().__call__(job, calls)


@pytest.fixture(scope="module")
def adapters(tmp_path_factory):
    """Three finished adapters over the demo's base model."""
    folder = tmp_path_factory.mktemp("adapters")
    base = Checkpoint(QUICK_STUDY.parent / "base")
    names = [name for name in base.shapes if name.endswith("q_proj.weight")]
    for seed, name in enumerate(("one", "two", "three")):
        draws = torch.Generator().manual_seed(seed)
        factors = {}
        for tensor in names:
            rows, columns = base.shapes[tensor]
            down = torch.randn(4, columns, generator=draws)
            factors[tensor] = (down, 0.02 * torch.randn(rows, 4, generator=draws))
        write_adapter(folder / name, factors)
    return folder


@pytest.fixture
def out(quick, tmp_path):
    """A copy of the quick study's store, from which nothing was reduced."""
    copied = tmp_path / "out"
    shutil.copytree(quick[0], copied)
    shutil.rmtree(copied / "reduced")
    return copied


def study(adapters, names, comparisons, changes=("", "")):
    models = "".join(f"  {n}: {{path: {adapters / n}, base_model: demo}}\n" for n in names)
    text = f"{STUDY}models:\n{models}comparisons:\n{comparisons}"
    for place in ("base", "data/d0.jsonl", "data/d1.jsonl"):
        text = text.replace(f"path: {place}", f"path: {QUICK_STUDY.parent / place}")
    return text.replace(*changes)


def reduced(text, out):
    """(what was computed, what was said, the tables)."""
    counting, said = Counting(), []
    context = context_of(text, out)
    reduction.write_reduction(context, counting, said.append)
    return counting, said, written(out)


def written(out):
    """The bytes of the tables."""
    names = ("comparisons", *reduction.TABLES_OF_REDUCTION)
    return {name: (out / "tables" / f"{name}.parquet").read_bytes() for name in names}


def from_nothing(text, out):
    shutil.rmtree(out / "reduced")
    return reduced(text, out)[2]


ALL = "  - base: all\n  - pair: [one, two]\n"


def test_reduction_of_what_is_there_computes_nothing(out, adapters):
    text = study(adapters, ("one", "two"), ALL)
    first, said, tables = reduced(text, out)
    assert said == ["reducing 5 of 5 comparisons"]
    assert len(first.pairs) == 5
    again, said, same = reduced(text, out)
    assert said == ["reducing 0 of 5 comparisons; 5 were there already"]
    assert (again.pairs, again.fresh, again.detailed) == ([], [], [])
    assert same == tables


def test_reduction_with_one_model_more_computes_what_is_missing(out, adapters):
    reduced(study(adapters, ("one", "two"), ALL), out)
    text = study(adapters, ("three", "one", "two"), ALL + "  - pair: [three, sft-d1]\n")
    more, said, tables = reduced(text, out)
    assert said == [
        "reducing 2 of 7 comparisons; 5 were there already",
        "norms and thresholds of 4 of 5 models and 6 of 10 pairs are taken from the store",
    ]
    assert sorted(more.pairs) == ["three~demo", "three~demo.sft-d1.s42"]
    assert (more.fresh, more.detailed, more.against) == (["three"], ["three"], ["three"])
    assert tables == from_nothing(text, out)


class Opened:
    """What was read of the files of adapters, by the call of the reduction that read it."""

    def __init__(self, monkeypatch):
        self.read, self.method = {}, ""
        plain, names = MappedFile.rows, {}
        opened = MappedFile.__init__

        def open_file(file, path):
            names[id(file)] = path.parent.name
            opened(file, path)

        def rows(file, name, start, stop):
            self.read.setdefault(self.method, set()).add(names.get(id(file)))
            return plain(file, name, start, stop)

        monkeypatch.setattr(MappedFile, "__init__", open_file)
        monkeypatch.setattr(MappedFile, "rows", rows)

    def execute(self, inside):
        def call(job, calls):
            self.method = calls[0].method
            return iter(list(inside(job, calls)))

        return call


def test_reduction_with_one_model_more_measures_that_model_alone(out, adapters, monkeypatch):
    """The others are only related to it. Norms, thresholds and pairs of old models come from the
    store, also where no comparison with the base model asked for them."""
    pair = "  - pair: [one, two]\n"
    first, said, _ = reduced(study(adapters, ("one", "two"), pair), out)
    assert said == ["reducing 1 of 1 comparison"]
    assert {"one", "two"} < first.measured
    opened, counting, said = Opened(monkeypatch), Counting(), []
    text = study(adapters, ("one", "two", "three"), pair)
    context = context_of(text, out)
    reduction.write_reduction(context, opened.execute(counting), said.append)
    assert said == [
        "reducing 0 of 1 comparison; 1 was there already",
        "norms and thresholds of 4 of 5 models and 6 of 10 pairs are taken from the store",
    ]
    assert counting.measured == {"three", "demo"}
    assert (counting.pairs, counting.fresh) == (["three~demo"], ["three"])
    finished = {"one", "two", "three"}
    assert opened.read["sample"] & finished == {"three"}
    # Factors that were just read are held, so that a later call need not read them.
    assert opened.read.get("measure", set()) & finished <= {"three"}
    assert opened.read["relate"] & finished >= {"one", "two"}
    assert opened.read["detail"] & finished == {"three"}
    tables = written(out)
    assert tables == from_nothing(text, out)


def test_reduction_whose_pairs_alone_are_missing_measures_nothing(out, adapters):
    text = study(adapters, ("one", "two"), ALL)
    reduced(text.replace("pairs: tensor", "pairs: module"), out)
    again, said, tables = reduced(text, out)
    assert said[1:] == [
        "norms and thresholds of 4 of 4 models and 0 of 6 pairs are taken from the store"
    ]
    assert (again.measured, again.detailed) == (set(), [])
    assert "collect" not in again.methods and "relate" not in again.methods
    assert tables == from_nothing(text, out)


def test_reduction_with_fewer_models_in_another_order_computes_nothing(out, adapters):
    reduced(study(adapters, ("one", "two", "three"), ALL), out)
    text = study(adapters, ("three", "one"), "  - base: [one]\n")
    fewer, said, tables = reduced(text, out)
    assert said == ["reducing 0 of 1 comparison; 1 was there already"]
    assert (fewer.pairs, fewer.fresh, fewer.detailed) == ([], [], [])
    assert tables == from_nothing(text, out)


def test_reduction_with_one_model_more_decomposes_no_tensor_again(out, adapters, monkeypatch):
    shutil.rmtree(out / "decomposed")
    made, decompose = [], ShortSide.decomposed

    def decomposed(self, name):
        made.append(name)
        return decompose(self, name)

    monkeypatch.setattr(ShortSide, "decomposed", decomposed)
    reduced(study(adapters, ("one",), "  - base: all\n"), out)
    # The trials of the quick study adapt every linear layer.
    assert len(made) == len(set(made)) == 28
    kept = sorted(file.name for file in (out / "decomposed").glob("*/*.safetensors"))
    assert len(kept) == 28
    made.clear()
    more, _, _ = reduced(study(adapters, ("one", "two"), "  - base: all\n"), out)
    assert (more.against, made) == (["two"], [])
    broken = out / "decomposed" / next((out / "decomposed").iterdir()).name / kept[0]
    broken.write_bytes(broken.read_bytes()[:-1])
    reduced(study(adapters, ("one", "two", "three"), "  - base: all\n"), out)
    assert len(made) <= 1


def test_reduction_computes_again_what_other_directions_determine_and_nothing_else(out, adapters):
    text = study(adapters, ("one",), "  - base: all\n")
    _, _, first = reduced(text, out)
    changed = text.replace("spectra: base", "spectra: {base: {top: 3, epsilon: 0.3}}")
    again, _, tables = reduced(changed, out)
    assert (again.pairs, again.fresh, again.detailed) == ([], [], [])
    assert len(again.against) == 3
    assert tables == from_nothing(changed, out)
    assert {name for name in tables if tables[name] != first[name]} == {"intruders"}
    off, _, without = reduced(text.replace("spectra: base", "spectra: delta"), out)
    assert off.against == []
    assert len(rows_of(read_table(Store(str(out)), "intruders"))) == 0
    assert without["norms"] == first["norms"]


def test_reduction_of_a_model_under_another_name_computes_nothing(out, adapters):
    text = study(adapters, ("one", "two"), ALL)
    reduced(text, out)
    text = text.replace("  one: {", "  uno: {").replace("[one,", "[uno,")
    renamed, _, tables = reduced(text, out)
    assert (renamed.pairs, renamed.fresh, renamed.detailed) == ([], [], [])
    assert tables == from_nothing(text, out)
    assert b"uno" in tables["comparisons"]


@pytest.mark.parametrize(
    "changes",
    [("densities", "x"), ("held_out: 0.15", "held_out: 0.15\ndensities: [0.3]")],
)
def test_reduction_computes_again_what_other_densities_determine(out, adapters, changes):
    text = study(adapters, ("one",), "  - base: all\n")
    reduced(text, out)
    changed = text.replace(*changes)
    again, _, tables = reduced(changed, out)
    assert bool(again.pairs) == (changed != text)
    assert again.detailed == []
    assert tables == from_nothing(changed, out)


def test_reduction_at_another_tolerance_takes_comparisons_again_and_nothing_else(out, adapters):
    text = study(adapters, ("one",), "  - base: all\n")
    reduced(text, out)
    changed = text.replace("held_out: 0.15", "held_out: 0.15\ntolerance: 0.003")
    again, _, tables = reduced(changed, out)
    assert (len(again.pairs), again.fresh, again.detailed) == (3, [], [])
    assert tables == from_nothing(changed, out)
    rows = rows_of(read_table(Store(str(out)), "norms"))
    assert {row["tolerance"] for row in rows} == {0.003}
    assert all(0 < row["moved"] < row["nonzero"] for row in rows)


def test_reduction_down_to_tensors_relates_models_again_and_nothing_else(out, adapters):
    text = study(adapters, ("one",), "  - base: all\n")
    _, _, usual = reduced(text.replace("pairs: tensor", "pairs: module"), out)
    again, _, tables = reduced(text, out)
    assert (again.pairs, len(again.fresh), again.detailed) == ([], 2, [])
    assert tables == from_nothing(text, out)
    assert tables["norms"] == usual["norms"] and tables["pairs"] != usual["pairs"]
    [group] = {
        (r["group"], r["name"], tuple(r["models"]))
        for r in rows_of(read_table(Store(str(out)), "kept_by"))
    }
    assert group == ("all", None, ("demo.sft-d1.s42", "demo.dpo-d0-after-sft-d1.s42"))


def test_reduction_that_lacks_a_group_alone_takes_its_counts_alone(out, adapters, monkeypatch):
    text = study(adapters, ("one",), "  - base: all\n")
    with monkeypatch.context() as without:
        without.setattr(study_parts, "groups_of", lambda _: ())
        assert rows_after(text, out) == []
    again, _, tables = reduced(text, out)
    assert (again.pairs, again.fresh, again.detailed) == ([], [], [])
    assert tables == from_nothing(text, out)


def rows_after(text, out):
    reduced(text, out)
    return rows_of(read_table(Store(str(out)), "kept_by"))


def test_reduction_computes_again_what_another_content_determines(out, adapters, tmp_path):
    moved = tmp_path / "adapters"
    shutil.copytree(adapters, moved)
    text = study(moved, ("one", "two"), ALL)
    reduced(text, out)
    shutil.rmtree(moved / "one")
    shutil.copytree(moved / "three", moved / "one")
    again, _, tables = reduced(text, out)
    assert sorted(again.pairs) == ["one~demo", "one~two"]
    assert tables == from_nothing(text, out)


@pytest.mark.parametrize("damage", ["index", "rows", "missing"])
def test_reduction_whose_parts_are_damaged_computes_them_again(out, adapters, damage):
    text = study(adapters, ("one", "two"), ALL)
    _, _, tables = reduced(text, out)
    index = out / "reduced" / "parts.json"
    rows = next(Path(out / "reduced").glob("*/norms.parquet"))
    if damage == "index":
        index.write_text(index.read_text()[:-9])
    elif damage == "rows":
        rows.write_bytes(rows.read_bytes()[:-1] + b"\0")
    else:
        rows.unlink()
    again, _, same = reduced(text, out)
    assert len(again.pairs) == 5
    assert same == tables
    assert len(list(Path(out / "reduced").glob("*/norms.parquet"))) == 1


def test_parts_that_were_not_saved_are_not_there(tmp_path):
    store = Store(str(tmp_path))
    store.prepare()
    parts = Parts.load(store)
    parts.add("a", {"norms": [{"comparison": "x", "view": "delta", "l1": 0.1}]})
    assert "a" not in Parts.load(store)
    parts.save(store)
    found = Parts.load(store)
    assert "a" in found
    [row] = found.rows("a", "norms", comparison="y")
    assert (row["comparison"], row["view"], row["l1"]) == ("y", "delta", 0.1)
    assert found.rows("a", "densities") == []


def test_model_that_cannot_be_reduced_is_a_row_with_its_cause_and_the_others_are_reduced(
    out, adapters, tmp_path
):
    broken = tmp_path / "models"
    shutil.copytree(adapters, broken)
    shutil.rmtree(broken / "two")
    write_adapter(broken / "two", {"model.x.weight": (torch.ones(4, 8), torch.ones(8, 4))})
    text = study(broken, ("one", "two", "three"), ALL + "  - pair: [one, three]\n")
    context, said = context_of(text, out), []
    computed, causes = reduction.write_reduction(context, InProcess(), said.append)
    assert [*causes] == ["two"] and "model.x" in causes["two"]
    assert [line for line in said if "two" in line] == [f"two cannot be reduced: {causes['two']}"]
    rows = {row["comparison"]: row for row in rows_of(read_table(context.store, "comparisons"))}
    failing = {name for name, row in rows.items() if row["status"] == "failed"}
    assert failing == {"one~two", "two~demo"}
    assert all(causes["two"] in rows[name]["message"] for name in failing)
    norms = {row["comparison"] for row in rows_of(read_table(context.store, "norms"))}
    assert norms == {name for name, row in rows.items() if row["status"] == "done"} != set()
    assert {row["comparison"] for row in computed.norms} == norms
    again, _ = reduction.write_reduction(context, InProcess(), said.append)
    assert again.norms == []


def test_cause_of_a_trial_that_cannot_be_reduced_stands_in_the_trials_table(out, adapters):
    context = context_of(study(adapters, ("one",), "  - base: all\n"), out)
    stages.write_trial_tables(context)
    name = context.planned[0].name
    unreadable.tell_in_trials(context.store, {name: "it does not fit"})
    rows = {row["name"]: row for row in rows_of(read_table(context.store, "trials"))}
    assert rows.pop(name)["message"] == "cannot be reduced: it does not fit"
    assert {row["message"] for row in rows.values()} == {None}
