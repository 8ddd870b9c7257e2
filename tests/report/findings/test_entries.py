"""Shares of entries against counts of made-up vectors."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from raylab.report.findings import entries
from raylab.report.study_tables import Tables
from raylab.report.words import translator
from tests.report.findings.vectors import BASE, name_of, norm, trial, values_of

SIZE, TOLERANCE, DENSITY = 1000, 0.5, 0.1
RECIPES = {"a": "D0", "b": "D1"}
VECTORS = {
    (recipe, seed): np.random.default_rng(place).normal(0, 1 + place / 4, SIZE).round(1)
    for place, (recipe, seed) in enumerate(itertools.product(RECIPES, (1, 2)))
}
GROUPS = {
    ("all", None): list(VECTORS),
    ("seed", "1"): [("a", 1), ("b", 1)],
    ("recipe", "a"): [("a", 1), ("a", 2)],
}


def kept(key):
    """The largest tenth of the entries, by place."""
    return set(np.argsort(-np.abs(VECTORS[key]), kind="stable")[: int(SIZE * DENSITY)].tolist())


def counts_of(keys):
    """How many entries k of the models keep, for each k."""
    found = [sum(place in kept(key) for key in keys) for place in range(SIZE)]
    return [found.count(k) for k in range(len(keys) + 1)]


def tables():
    trials = [trial(r, s, float(np.linalg.norm(v)), data=RECIPES[r])
              for (r, s), v in VECTORS.items()]  # fmt: skip
    norms = [
        norm(name_of(*key), BASE, 1.0, numel=SIZE, view=view, tolerance=TOLERANCE,
             nonzero=int((v != 0).sum()), moved=int((np.abs(v) > TOLERANCE).sum()) // times)
        for key, v in VECTORS.items() for view, times in (("delta", 1), ("merged", 2))
    ]  # fmt: skip
    groups = []
    for (group, name), keys in GROUPS.items():
        counts = counts_of(keys)
        row = {
            "model": BASE, "group": group, "name": name, "models": [name_of(*key) for key in keys],
            "view": "delta", "universe": "compared", "level": "all", "key": "all",
            "density": DENSITY, "numel": SIZE, "counts": counts, "by_none": counts[0],
            "by_one": counts[1], "by_all": counts[-1], "by_some": sum(counts[2:-1]),
            "all_by_chance": DENSITY ** len(keys) * SIZE, "conflicts": 1, "sign_conflict": 0.25,
        }  # fmt: skip
        groups += [row, row | {"density": 1.0}, row | {"level": "layer", "key": "0"}]
    return Tables.of({"trials": trials, "norms": norms, "kept_by": groups})


def test_moved_share_of_a_recipe_is_the_mean_over_seeds_beside_their_spread():
    found = entries.find(tables())
    rows = {(row["recipe"], row["view"]): row for row in found.frames["moved"]}
    assert len(rows) == 4
    row = rows[f"{BASE}.b", "delta"]
    shares = [float((np.abs(VECTORS["b", s]) > TOLERANCE).mean()) for s in (1, 2)]
    assert row["moved_share"] == pytest.approx(sum(shares) / 2, rel=1e-12)
    assert row["seed_spread"] == pytest.approx(abs(shares[0] - shares[1]), rel=1e-9)
    nonzero = [float((VECTORS["b", s] != 0).mean()) for s in (1, 2)]
    assert row["nonzero_share"] == pytest.approx(sum(nonzero) / 2, rel=1e-12)
    assert (row["seeds"], row["tolerance"]) == (2, TOLERANCE)


def test_shared_entries_are_those_that_sets_of_places_have_in_common():
    rows = {row["group"]: row for row in entries.find(tables()).frames["shared"]}
    assert set(rows) == {"all", "seed", "recipe"}
    both = len(kept(("a", 1)) & kept(("a", 2)))
    row = rows["recipe"]
    assert row["all_share"] == pytest.approx(both / SIZE, rel=1e-12)
    assert row["over_chance"] == pytest.approx(both / (DENSITY**2 * SIZE), rel=1e-12)
    assert row["in_common"] == pytest.approx(both / len(kept(("a", 1))), rel=1e-12)
    assert row["common_by_chance"] == pytest.approx(DENSITY, rel=1e-12)
    assert (row["label"], row["models"], rows["all"]["label"]) == ("A", 2, "all")
    either = len(kept(("a", 1)) ^ kept(("a", 2)))
    assert row["one_share"] == pytest.approx(either / SIZE, rel=1e-12)
    shares = [row[f"{name}_share"] for name in ("all", "some", "one", "none")]
    assert sum(shares) == pytest.approx(1, rel=1e-12)


def test_entries_have_sentences_in_both_languages():
    found = entries.find(tables())
    keys = {sentence.key for sentence in found.sentences}
    assert keys == {"entries-moved", "entries-shared_recipe", "entries-shared_seed"}
    assert [sentence.key for sentence in found.answer] == ["entries-moved", "entries-shared_seed"]
    views = [values["view"] for values in values_of(found.sentences, "entries-moved")]
    assert views == ["delta", "merged"]
    for sentence in found.sentences:
        for language in ("en", "ja"):
            assert translator(language).sentence(sentence)


def test_entries_of_tables_without_counts_say_so():
    trials = [trial("a"), trial("b", data="D1")]
    norms = [norm(name_of("a", 1), BASE, 1.0)]
    found = entries.find(Tables.of({"trials": trials, "norms": norms}))
    assert values_of(found.sentences, "entries-nothing") == [{}]
    assert found.frames == {"moved": [], "shared": []}
