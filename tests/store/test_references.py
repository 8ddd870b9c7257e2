"""References: each names exactly one model, or says what was found."""

from __future__ import annotations

import json
import shutil

import pytest

from raylab.errors import ModelError, RaylabError
from raylab.spec import models as bases
from raylab.spec.study import Quantization
from raylab.store.filesystem import Store
from raylab.store.references import (
    FoundModel,
    ModelLocation,
    find_base,
    find_finished_trial,
    find_model,
    location_of,
)
from raylab.store.studies import make_room
from raylab.store.study_plan import NamedResult, StudyPlan, write_plan
from tests.reduce.models import (
    random_factors,
    random_weights,
    write_adapter,
    write_checkpoint,
    write_store,
)

FIRST, SECOND, OTHER = "1" * 16, "2" * 16, "3" * 16


@pytest.fixture
def there(tmp_path):
    """A checkpoint and an adapter."""
    base = write_checkpoint(tmp_path / "base", random_weights(0))
    return base, write_adapter(tmp_path / "adapter", random_factors(1))


@pytest.fixture
def out(there, tmp_path):
    """OUT of a study: a trial, one chained to it, a finished adapter and a checkpoint."""
    base, adapter = there
    finished = {
        "tuned": {"path": str(adapter), "base_model": "tiny"},
        "whole": {"path": str(base), "base_model": "tiny"},
    }
    trials = {
        "tiny.sft.s1": (FIRST, "tiny", None, adapter),
        "tiny.dpo.s1": (SECOND, "tiny", FIRST, adapter),
        "tiny.dpo.s2": (OTHER, "tiny", "9" * 16, adapter),
    }
    return write_store(
        tmp_path / "out", trials, {"tiny": base}, models=finished, quantization={"type": "fp4"}
    )


def folder(out, name, trial_id):
    return out / "trials" / f"{name}-{trial_id}" / "adapter"


def test_directories_are_checkpoints_or_adapters(there):
    base, adapter = there
    assert find_model(str(base)) == FoundModel(str(base), ModelLocation(checkpoint=base))
    assert find_model(str(adapter)) == FoundModel(str(adapter), ModelLocation(adapters=(adapter,)))


def test_directory_in_the_home_directory_is_found(there, monkeypatch):
    base, _ = there
    monkeypatch.setenv("HOME", str(base.parent))
    assert find_model("~/base").location == ModelLocation(checkpoint=base)


def test_finding_a_directory_reads_no_weights(there, monkeypatch):
    """Which bytes a model has matters to a study's identity, not to a difference."""

    def refuse(*_):
        raise AssertionError("the weights were read")

    monkeypatch.setattr(bases, "_content", refuse)
    for path in there:
        find_model(str(path))


def test_finding_a_trial_reads_no_weights(out, monkeypatch):
    monkeypatch.setattr(bases, "_content", lambda *_: pytest.fail("the weights were read"))
    for name in ("tiny.sft.s1", "tuned", "tiny"):
        find_model(f"{out}#{name}")


@pytest.mark.parametrize("name", ["tiny.sft.s1", FIRST])
def test_trial_is_found_by_name_or_id_with_all_that_its_study_knows(out, there, name):
    found = find_model(f"{out}#{name}")
    adapters = (folder(out, "tiny.sft.s1", FIRST),)
    assert found.location == ModelLocation(adapters=adapters, base=there[0])
    assert (found.name, found.quantization) == (f"{out}#{name}", Quantization(type="fp4"))


def test_chained_trial_has_the_adapters_of_its_lineage_the_oldest_first(out):
    adapters = find_model(f"{out}#tiny.dpo.s1").location.adapters
    assert adapters == (folder(out, "tiny.sft.s1", FIRST), folder(out, "tiny.dpo.s1", SECOND))


def test_merge_of_a_study_is_its_checkpoint_over_its_base_model(there, tmp_path):
    base, adapter = there
    trials = {"tiny.soup.s1": (FIRST, "tiny", None, adapter)}
    out = write_store(tmp_path / "merges", trials, {"tiny": base}, made="merged")
    merged = folder(out, "tiny.soup.s1", FIRST).with_name("merged")
    assert find_model(f"{out}#tiny.soup.s1").location == ModelLocation(checkpoint=merged, base=base)


def test_base_and_finished_models_of_a_study_are_found(out, there):
    base, adapter = there
    fp4 = Quantization(type="fp4")
    places = {
        "tiny": ModelLocation(base=base),
        "tuned": ModelLocation(adapters=(adapter,), base=base),
        "whole": ModelLocation(checkpoint=base, base=base),
    }
    for name, place in places.items():
        assert find_model(f"{out}#{name}") == FoundModel(f"{out}#{name}", place, fp4)


def test_trial_of_a_base_model_that_is_gone_is_there_without_it(out, there):
    shutil.rmtree(there[0])
    found = find_model(f"{out}#tiny.sft.s1")
    assert found.location == ModelLocation(adapters=(folder(out, "tiny.sft.s1", FIRST),))
    with pytest.raises(ModelError, match="tiny is not"):
        find_model(f"{out}#tiny")


@pytest.mark.parametrize("order", [1, -1])
def test_base_models_whose_names_begin_alike_are_told_apart(there, tmp_path, order):
    """`qwen2` is how `qwen2.5` begins, and a trial's name begins with its base model's."""
    base, adapter = there
    other = write_checkpoint(tmp_path / "other", random_weights(5))
    named = dict([("qwen2", base), ("qwen2.5", other)][::order])
    trials = {
        "qwen2.sft.s1": (FIRST, "qwen2", None, adapter),
        "qwen2.5.sft.s1": (SECOND, "qwen2.5", None, adapter),
    }
    out = write_store(tmp_path / "out", trials, named)
    assert find_model(f"{out}#qwen2.sft.s1").location.base == base
    assert find_model(f"{out}#qwen2.5.sft.s1").location.base == other


def refused(reference):
    with pytest.raises(RaylabError) as error:
        find_model(reference)
    assert error.value.exit_status == 2
    return error.value.message


def test_unknown_references_say_what_was_found_and_expected(out, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    missing = refused(str(tmp_path / "nowhere"))
    assert "nowhere" in missing and "OUT#name" in missing
    assert "some/model" in refused("some/model") and "hf download" in refused("some/model")
    assert "no study" in refused(f"{tmp_path}#tiny.sft.s1")
    unknown = refused(f"{out}#tiny.sft.s7")
    assert "tiny.sft.s7" in unknown and "tiny.sft.s1" in unknown and "tuned" in unknown
    assert "directory" in refused(str(out / "study.yaml"))


def test_parent_that_is_not_in_the_store_is_named(out):
    assert "9" * 16 in refused(f"{out}#tiny.dpo.s2")


def test_name_of_two_trials_is_refused_with_their_ids(out, there):
    twin = out / "trials" / f"tiny.sft.s1-{'4' * 16}"
    shutil.copytree(out / "trials" / f"tiny.sft.s1-{FIRST}", twin)
    record = json.loads((twin / "record.json").read_text())
    (twin / "record.json").write_text(json.dumps(record | {"id": "4" * 16}))
    message = refused(f"{out}#tiny.sft.s1")
    assert FIRST in message and "4" * 16 in message
    assert find_model(f"{out}#{FIRST}").location.adapters == (folder(out, "tiny.sft.s1", FIRST),)


def rename(out, names, base="tiny"):
    """Write the plan of a study that calls the results `names`, {name: id}, over `base`."""
    results = [
        NamedResult(name=name, id=id, base_model=base, data={"data": "plain"})
        for name, id in names.items()
    ]
    write_plan(Store(str(out)), StudyPlan(study="made", results=tuple(results)))
    text = (out / "study.yaml").read_text().replace("tiny:", f"{base}:")
    (out / "study.yaml").write_text(text.replace(": tiny", f": {base}"))


def test_renamed_trial_is_found_by_its_new_name_or_id_with_its_lineage(out, there):
    rename(out, {"small.base.s1": FIRST, "small.chained.s1": SECOND}, base="small")
    adapters = (folder(out, "tiny.sft.s1", FIRST), folder(out, "tiny.dpo.s1", SECOND))
    for name in ("small.chained.s1", SECOND):
        found = find_finished_trial(f"{out}#{name}")
        assert found.location == ModelLocation(adapters=adapters, base=there[0])
        assert [record.name for record in found.lineage] == ["small.base.s1", "small.chained.s1"]
        assert found.record.data == {"data": "plain"}
        assert found.base_model == "small"


def test_former_name_of_a_trial_is_refused_with_the_name_it_has_now(out):
    rename(out, {"tiny.chained.s1": SECOND, "tiny.twin.s1": SECOND})
    message = refused(f"{out}#tiny.dpo.s1")
    assert "former name" in message and f"{out}#tiny.chained.s1" in message
    assert SECOND in message


def test_name_that_another_trial_took_over_is_that_of_the_plan(out):
    """`dpo` was renamed, and `sft` is called `dpo` now."""
    rename(out, {"tiny.dpo.s1": FIRST, "tiny.chained.s1": SECOND})
    found = find_model(f"{out}#tiny.dpo.s1")
    assert found.location.adapters == (folder(out, "tiny.sft.s1", FIRST),)


def test_name_of_a_planned_trial_is_never_that_of_an_older_result(out):
    rename(out, {"tiny.sft.s1": "8" * 16})
    message = refused(f"{out}#tiny.sft.s1")
    assert "nothing that is done" in message and "8" * 16 in message


def test_two_names_of_one_trial_are_both_found_and_each_is_called_so(out):
    rename(out, {"tiny.a.s1": FIRST, "tiny.b.s1": FIRST})
    found = [find_finished_trial(f"{out}#{name}") for name in ("tiny.a.s1", "tiny.b.s1", FIRST)]
    assert [item.record.name for item in found] == ["tiny.a.s1", "tiny.b.s1", "tiny.a.s1"]
    assert len({item.location for item in found}) == 1


def test_result_that_the_plan_lacks_keeps_the_name_of_its_record(out):
    rename(out, {"tiny.chained.s1": SECOND})
    assert find_model(f"{out}#tiny.sft.s1").location.adapters == (
        folder(out, "tiny.sft.s1", FIRST),
    )


def test_name_of_a_study_that_ran_before_is_understood_by_that_study(out, there):
    store = Store(str(out))
    rename(out, {"small.sft.lr=1e-05.s1": FIRST}, base="small")
    text = (out / "study.yaml").read_text()
    make_room(store, "another")
    (out / "study.yaml").write_text(text.replace("small", "tiny").replace("made", "another"))
    write_plan(store, StudyPlan(study="another"))
    for name in ("small.sft.lr=1e-05.s1", "small.sft.lr=0.00001.s1", FIRST):
        found = find_finished_trial(f"{out}#{name}")
        assert (found.base_model, found.study.name) == ("small", "made")
        assert found.location.base == there[0]
        assert found.record.name == "small.sft.lr=1e-05.s1"
    assert find_finished_trial(f"{out}#tiny.sft.s1").study.name == "another"


@pytest.mark.parametrize("text", ["", "{", "[]", '{"study": 1}'])
def test_plan_that_is_damaged_counts_as_none(out, text):
    (out / "plan.json").write_text(text)
    assert find_model(f"{out}#tiny.sft.s1")


@pytest.mark.parametrize("damage", ["record", "adapter"])
def test_damaged_trial_is_refused_and_the_damage_named(out, damage):
    trial = out / "trials" / f"tiny.sft.s1-{FIRST}"
    file = trial / ("record.json" if damage == "record" else "adapter/adapter_model.safetensors")
    file.write_bytes(file.read_bytes()[:-5])
    assert "record.json" in refused(f"{out}#tiny.sft.s1")
    assert FIRST in refused(f"{out}#tiny.dpo.s1")


@pytest.mark.parametrize("text", ["", "name: [", "name: 1\nnonsense: 2\n", "- a\n", "\x00\x01"])
def test_study_that_cannot_be_read_is_one_message(out, text):
    (out / "study.yaml").write_text(text)
    assert "study.yaml" in refused(f"{out}#tiny.sft.s1")


def test_trial_of_a_base_model_that_the_study_no_longer_has_is_refused(out, there):
    text = (out / "study.yaml").read_text().replace("tiny:", "large:").replace(": tiny", ": large")
    (out / "study.yaml").write_text(text)
    assert "base model" in refused(f"{out}#tiny.sft.s1")


def test_find_base_takes_whole_weights_and_no_adapter(out, there):
    base, adapter = there
    assert find_base(str(base)) == base
    assert find_base(f"{out}#tiny") == base
    assert find_base(f"{out}#whole") == base
    for reference in (str(adapter), f"{out}#tiny.sft.s1"):
        with pytest.raises(ModelError, match="adapter is no base model"):
            find_base(reference)


def test_place_of_keeps_the_base_model(there):
    base, adapter = there
    assert location_of(adapter, base) == ModelLocation(adapters=(adapter,), base=base)
    assert location_of(base, base) == ModelLocation(checkpoint=base, base=base)


def test_downloaded_model_is_found_by_its_id(there, tmp_path, monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    cached = tmp_path / "hub" / "models--some--model"
    (cached / "refs").mkdir(parents=True)
    (cached / "refs" / "main").write_text("c" * 40)
    shutil.copytree(there[0], cached / "snapshots" / ("c" * 40))
    place = ModelLocation(checkpoint=cached / "snapshots" / ("c" * 40))
    assert find_model("some/model") == FoundModel("some/model", place)
    (cached / "refs" / "v1").write_text("d" * 40)
    shutil.copytree(there[0], cached / "snapshots" / ("d" * 40))
    place = ModelLocation(checkpoint=cached / "snapshots" / ("d" * 40))
    assert find_model("some/model@v1") == FoundModel("some/model@v1", place)
    with pytest.raises(ModelError, match="some/model@v2"):
        find_model("some/model@v2")


@pytest.fixture
def swept(there, tmp_path):
    """OUT of a swept recipe: made as 0.0003, and called 3e-4 in the study that ran last."""
    base, adapter = there
    trials = {
        "tiny.sft.learning_rate=0.0003.s1": (FIRST, "tiny", None, adapter),
        "tiny.sft.learning_rate=0.003.s1": (SECOND, "tiny", None, adapter),
    }
    return write_store(tmp_path / "swept", trials, {"tiny": base})


@pytest.mark.parametrize("spelling", ["0.0003", "3e-4", "3.0E-4", ".0003"])
@pytest.mark.parametrize("has_plan", [False, True])
def test_swept_trial_is_found_by_every_spelling_of_its_value(swept, spelling, has_plan):
    if has_plan:
        new = NamedResult(name="tiny.sft.learning_rate=3e-4.s1", id=FIRST, base_model="tiny")
        write_plan(Store(str(swept)), StudyPlan(study="s", results=(new,)))
    found = find_finished_trial(f"{swept}#tiny.sft.learning_rate={spelling}.s1")
    assert found.record.id == FIRST
    assert ("3e-4" in found.record.name) == has_plan


def test_swept_trial_of_another_value_lists_what_is_done_nearest_first(swept):
    with pytest.raises(ModelError) as caught:
        find_model(f"{swept}#tiny.sft.learning_rate=0.002.s1")
    listed = "tiny.sft.learning_rate=0.003.s1, tiny.sft.learning_rate=0.0003.s1"
    assert f"one of {listed}" in str(caught.value)
