"""The code of a card names places that its reader has, and starts where the training started."""

from __future__ import annotations

from dataclasses import replace

import pytest

from raylab.publish.loading import asked_of, loading_of
from raylab.publish.provenance import facts_of
from raylab.store.references import find_finished_trial
from tests.publish.conftest import QUESTIONS


def code_of(trial, base=None, variant="as_trained", **options):
    facts = facts_of(trial, **{"merged": False, **options})
    return loading_of(trial, facts).code("me/thing", base, variant)


def with_base(trial, **changes):
    models = {"demo": trial.study.base_models["demo"].model_copy(update=changes)}
    return replace(trial, study=trial.study.model_copy(update={"base_models": models}))


def with_quantization(trial, **changes):
    settings = {f"quantization.{name}": value for name, value in changes.items()}
    identity = {**trial.record.identity, **settings}
    record = trial.record.model_copy(update={"identity": identity})
    return replace(trial, lineage=(*trial.lineage[:-1], record))


def test_code_for_a_hub_names_no_path_of_this_machine(made, tmp_path):
    code = code_of(find_finished_trial(made.reference("second")))
    assert 'base_model = "demo"  # where you have it: a local checkpoint' in code
    assert 'published = "me/thing"' in code
    assert str(tmp_path) not in code and str(made.base) not in code


def test_code_for_a_base_of_the_hub_names_its_id_and_commit(made):
    trial = with_base(find_finished_trial(made.reference("second")), path=None, hub="a/b")
    identity = {**trial.record.identity, "base_model": f"hub:a/b@{'0' * 40}"}
    lineage = (*trial.lineage[:-1], trial.record.model_copy(update={"identity": identity}))
    code = code_of(replace(trial, lineage=lineage))
    assert 'base_model = "a/b"\n' in code
    assert f'from_pretrained(base_model, dtype="auto", revision="{"0" * 40}")' in code


@pytest.mark.parametrize(
    ("quantization", "variant", "present", "absent"),
    [
        ({}, "as_trained", ["dtype=torch.float32", '"nf4"', "avx512bf16_for_cpu = False"], []),
        ({"type": "fp4", "double": True}, "as_trained", ['"fp4"', "double_quant=True"], ['"nf4"']),
        ({}, "repacked", ['"nf4"'], ["avx512bf16"]),
        ({}, "not_quantised", ['dtype="auto"'], ["BitsAndBytes", "avx512bf16"]),
        ({"bits": 16, "compute_dtype": "bfloat16"}, "as_trained",
         ["dtype=torch.bfloat16"], ["BitsAndBytes", "avx512bf16"]),
    ],
)  # fmt: skip
def test_code_holds_the_base_as_the_training_did_or_as_its_variant(
    made, quantization, variant, present, absent
):
    trial = with_quantization(find_finished_trial(made.reference("first")), **quantization)
    code = code_of(trial, made.base, variant)
    compile(code, "card", "exec")
    assert [part for part in present if part not in code] == []
    assert [part for part in absent if part in code] == []


def test_code_trusts_remote_code_only_where_the_study_does(made):
    trial = find_finished_trial(made.reference("second"))
    assert "trust_remote_code" not in code_of(trial)
    code = code_of(with_base(trial, trust_remote_code=True))
    compile(code, "card", "exec")
    assert code.count("trust_remote_code=True") == code.count("from_pretrained(place") + 3


@pytest.mark.parametrize(
    "chains",
    [
        ["merge"],
        ["stack"],
        ["merge", "stack"],
        ["stack", "merge"],
        ["stack", "stack"],
        ["merge", "stack", "merge", "stack"],
    ],
)
def test_facts_split_a_chain_into_merged_and_stacked_parents_as_training_does(made, chains):
    """A merged parent takes all of its own ancestors; a stacked one leaves them where they are."""
    trial = find_finished_trial(made.reference("first"))
    records, frozen = [trial.record], 0
    for number, chain in enumerate(chains, 1):
        name = str(number)
        identity = {**trial.record.identity, "chain": chain, "parent": str(number - 1)}
        frozen = frozen + 1 if chain == "stack" else 0
        records.append(trial.record.model_copy(update={"name": name, "identity": identity}))
    facts = facts_of(replace(trial, lineage=tuple(records)), merged=False)
    assert len(facts.stacked_parents) == frozen
    assert (*facts.merged_parents, *facts.stacked_parents) == facts.adapters[:-1]


def test_turns_before_a_recorded_prompt_are_asked_again(made):
    for sample, question in zip(made.record_answers("first"), QUESTIONS, strict=True):
        assert asked_of(sample.as_row()).chat == question.chat
