"""Several studies in one OUT: the last one at its place, the others whole beside it."""

from __future__ import annotations

import pytest

from raylab.store.filesystem import Store
from raylab.store.studies import (
    forget_former_place,
    make_room,
    other_plans,
    other_studies,
    store_of_study,
    study_at,
)
from raylab.store.study_plan import NamedResult, StudyPlan, write_plan
from tests.studies import make_study

FILES = ("tables/trials.parquet", "tables/norms.parquet", "report/report.html",
         "report/figures/a.svg", "report/asked.txt")  # fmt: skip


@pytest.fixture(params=["local", "remote"])
def store(request, tmp_path):
    """An empty store, on a disk and in an object store."""
    if request.param == "remote":
        return request.getfixturevalue("remote")
    return Store(str(tmp_path / "out"))


def plan(name, *ids):
    results = [NamedResult(name=f"{name}.{id}", id=id, base_model="tiny") for id in ids]
    return StudyPlan(study=name, results=tuple(results))


def leave(store, name):
    """What a driver of the study `name` writes, in its order."""
    make_room(store, name)
    store.write("study.yaml", make_study(name=name).model_dump_json(exclude_none=True).encode())
    write_plan(store, plan(name, "aa"))
    for key in FILES:
        store.write(key, f"{name} {store.address('tables')} {key}".encode())


def content(store):
    return {key: store.read(key).decode() for key in FILES if store.exists(key)}


def test_study_of_another_name_moves_what_was_there_and_overwrites_nothing(store):
    store.write("trials/a-0123456789abcdef/record.json", b"{}")
    leave(store, "large")
    large = content(store)
    leave(store, "small")
    assert study_at(store) == "small"
    assert all(text.startswith("small ") for text in content(store).values())
    place = store_of_study(store, "large")
    assert place is not None and place.root == f"{store.root}/studies/large"
    assert study_at(place) == "large"
    moved = content(place)
    assert set(moved) == set(FILES)
    for key in FILES:
        if key.endswith(".html"):
            assert moved[key] == f"large {place.address('tables')} {key}"
        else:
            assert moved[key] == large[key]
    assert store.exists("trials/a-0123456789abcdef/record.json")
    assert [study_at(other) for other in other_studies(store)] == ["large"]
    assert other_plans(store) == [plan("large", "aa")]


def test_study_of_the_same_name_stays_at_its_place(store):
    leave(store, "large")
    assert make_room(store, "large") is None
    assert set(content(store)) == set(FILES)
    assert store.names("studies") == []


def test_studies_that_take_turns_are_each_at_one_place(store):
    for name in ("a", "b", "a", "b", "c", "a"):
        leave(store, name)
        forget_former_place(store, name)
    assert study_at(store) == "a"
    assert store.names("studies") == ["b", "c"]
    for name in ("a", "b", "c"):
        place = store_of_study(store, name)
        assert place is not None
        assert {text.split()[0] for text in content(place).values()} == {name}
    assert store_of_study(store, "never") is None


def test_store_without_a_study_holds_the_tables_of_any(store):
    store.write("tables/norms.parquet", b"by raylab diff")
    assert study_at(store) is None
    assert store_of_study(store, "any") is store
    assert make_room(store, "any") is None
    assert store.read("tables/norms.parquet") == b"by raylab diff"


def test_study_without_a_plan_is_known_by_its_file(tmp_path):
    """As an earlier version left it."""
    store = Store(str(tmp_path / "out"))
    leave(store, "large")
    store.delete("plan.json")
    assert study_at(store) == "large"
    assert make_room(store, "small") == "large"
    store.write("study.yaml", b"name: [")
    assert study_at(store) is None


class Killed(BaseException):
    """The process was killed."""


@pytest.mark.parametrize("step", range(20))
def test_move_that_is_killed_anywhere_loses_nothing(step, tmp_path, monkeypatch):
    """The oracle: after a second try, every file of the former study is there once and whole."""
    store = Store(str(tmp_path / "out"))
    leave(store, "large")
    steps = []

    def killed_at(operation):
        def act(self, *args):
            steps.append(args)
            if len(steps) > step:
                raise Killed
            return operation(self, *args)

        return act

    with monkeypatch.context() as patch:
        for name in ("write", "delete"):
            patch.setattr(Store, name, killed_at(getattr(Store, name)))
        try:
            make_room(store, "small")
        except Killed:
            assert len(steps) == step + 1
        else:
            assert len(steps) <= step
    make_room(store, "small")
    assert study_at(store) is None
    assert content(store) == {} and store.names("") == ["studies"]
    place = store.within("studies/large")
    assert study_at(place) == "large"
    moved = content(place)
    assert set(moved) == set(FILES)
    assert all(text.startswith("large ") for text in moved.values())


@pytest.mark.parametrize("out", ["/some/where?x=1", "file:///some/where"])
def test_store_within_another_has_its_keys_below(out):
    store = Store(out)
    inner = store.within("studies/a")
    assert inner.path("tables") == store.path("studies/a/tables")
    assert Store(inner.uri).root == inner.root
    assert store.root == Store(out).root


def test_store_within_an_object_store_is_opened_again_by_its_uri(remote):
    inner = remote.within("studies/a")
    inner.write("tables/x", b"1")
    assert remote.read("studies/a/tables/x") == b"1"
    assert Store(inner.uri).read("tables/x") == b"1"
