"""The table of intruders of whole models, against numpy's SVD of every W and W + delta."""

from __future__ import annotations

import math

import pytest
import torch

from raylab.reduce.decomposition import ShortSide
from raylab.reduce.intruder_rows import relate_to_base
from raylab.reduce.job import InProcess, Job
from raylab.reduce.shard_cache import pack, unpack
from raylab.spec.spectra import BaseDirections
from raylab.store.filesystem import DECOMPOSED, Store
from raylab.store.references import ModelLocation
from raylab.store.tables import to_table
from tests.oracles.directions import against_base
from tests.oracles.relations import groups
from tests.reduce.models import (
    LINEAR,
    Q0,
    SHAPES,
    UP0,
    deltas_of,
    random_factors,
    random_weights,
    write_adapter,
    write_checkpoint,
)

ASKED = BaseDirections(top=5, epsilon=0.4)


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """A base model; two adapters, one of zeros, a chain, and a checkpoint."""
    path = tmp_path_factory.mktemp("models")
    weights = random_weights(0)
    base = write_checkpoint(path / "base", weights)
    factors = {
        "one": random_factors(1, scale=0.01),
        "two": random_factors(2, names=(Q0, UP0), scale=0.2),
        "zeros": random_factors(3, scale=0),
    }
    folders = {name: write_adapter(path / name, found) for name, found in factors.items()}
    other = write_checkpoint(path / "other", random_weights(7))
    places = {name: ModelLocation((folder,), base=base) for name, folder in folders.items()}
    places["chain"] = ModelLocation((folders["one"], folders["two"]), base=base)
    places["other"] = ModelLocation(checkpoint=other, base=base)
    deltas = {name: deltas_of(found) for name, found in factors.items()}
    deltas["chain"] = {n: d + deltas["two"].get(n, 0) for n, d in deltas["one"].items()}
    return base, weights, places, deltas


def job_of(models, names, threads=1):
    base, _, places, _ = models
    chosen = {name: places[name] for name in names}
    return Job(chosen, (), base=base, vectors=tuple(names), threads=threads, id="a")


def rows_of(models, out, names=("one", "two", "zeros", "chain", "other"), execute=None, **job):
    job = job_of(models, names, **job)
    return relate_to_base(job, execute or InProcess(), ASKED, Store(str(out)), "base")


def expected_rows(weights, deltas):
    """{(level, key): the sums of numpy's numbers}."""
    found = {n: against_base(weights[n].double(), d, 5, 0.4) for n, d in deltas.items()}
    places = groups(deltas) | {("tensor", n): [n] for n in deltas}
    rows = {}
    for place, names in places.items():
        parts = [found[n] for n in names]
        energy = math.fsum(p["energy"] for p in parts)
        chance = [[p["energy"] * 5 / SHAPES[n][s] for n, p in zip(names, parts, strict=True)]
                  for s in (0, 1)]  # fmt: skip
        rows[place] = {
            "tensors": len(names),
            "directions": sum(p["directions"] for p in parts),
            "intruders": sum(p["intruders"] for p in parts),
            "share_left": math.fsum(p["left"] for p in parts) / energy if energy else None,
            "share_right": math.fsum(p["right"] for p in parts) / energy if energy else None,
            "chance_left": math.fsum(chance[0]) / energy if energy else None,
            "chance_right": math.fsum(chance[1]) / energy if energy else None,
        }
    return rows


def test_rows_of_every_model_and_level_are_those_of_numpy(models, tmp_path):
    rows = rows_of(models, tmp_path)
    _, weights, _, deltas = models
    for name, own in deltas.items():
        expected = expected_rows(weights, own)
        found = {(r["level"], r["key"]): r for r in rows if r["model"] == name}
        assert found.keys() == expected.keys()
        for place, wanted in expected.items():
            row = found[place]
            assert (row["top"], row["epsilon"]) == (5, 0.4)
            for key, value in wanted.items():
                assert row[key] == (value if value is None else pytest.approx(value, rel=1e-9)), key
            share = wanted["intruders"] / wanted["directions"]
            assert row["intruder_share"] == pytest.approx(share)
    assert sum(r["intruders"] for r in rows if r["level"] == "all") > 5
    assert to_table("intruders", rows).num_rows == len(rows)


def test_rows_of_a_delta_of_zeros_have_no_shares_and_no_intruders(models, tmp_path):
    rows = rows_of(models, tmp_path, ("zeros",))
    assert len(rows) == 1 + 2 + 2 + len(LINEAR)
    for row in rows:
        assert (row["intruders"], row["share_left"], row["chance_right"]) == (0, None, None)
        assert row["directions"] == 5 * row["tensors"]


def test_rows_of_a_checkpoint_are_none(models, tmp_path):
    assert rows_of(models, tmp_path, ("other",)) == []


def test_rows_have_the_same_bits_in_any_order_beside_any_models_and_from_a_store(
    models, tmp_path, monkeypatch
):
    whole = rows_of(models, tmp_path)
    made = []
    monkeypatch.setattr(ShortSide, "decomposed", lambda self, name: made.append(name))

    class Backwards(InProcess):
        def __call__(self, job, calls):
            results = dict(super().__call__(job, calls))
            for index in reversed(results):
                yield index, unpack(pack(results[index]))

    again = rows_of(models, tmp_path, execute=Backwards(), threads=4)
    assert again == whole
    for name in ("one", "chain"):
        assert rows_of(models, tmp_path, (name,)) == [r for r in whole if r["model"] == name]
    assert made == []


def test_rows_do_not_depend_on_the_threads_of_the_process(models, tmp_path):
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        one = rows_of(models, tmp_path / "one")
        torch.set_num_threads(4)
        assert rows_of(models, tmp_path / "four") == one
    finally:
        torch.set_num_threads(before)


def test_rows_without_the_base_models_weights_are_none(models, tmp_path):
    _, _, places, _ = models
    place = ModelLocation(places["one"].adapters)
    job = Job({"one": place}, (), vectors=("one",), id="a")
    assert relate_to_base(job, InProcess(), ASKED, Store(str(tmp_path)), "base") == []
    assert list(Store(str(tmp_path)).files(DECOMPOSED)) == []
