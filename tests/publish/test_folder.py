"""The folder that is published: its files and its card."""

from __future__ import annotations

import json

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from raylab.errors import ModelError, OutError
from raylab.publish.folder import write_folder
from raylab.store.references import find_finished_trial
from tests.architectures import merged_by_peft
from tests.commands import exit_status
from tests.publish.conftest import RECIPES, Made


def published(made, name, tmp_path, repo, *options):
    """The folder of `raylab publish --dry-run`, as if it lay on a hub."""
    folder = tmp_path / "hub" / repo
    arguments = [made.reference(name), repo, "--dry-run", "--out", str(folder), *options]
    assert exit_status("publish", *arguments) == 0
    return folder


def test_published_adapter_is_the_trials_own_and_a_chain_has_both_ranks(made, tmp_path):
    alone = published(made, "first", tmp_path, "me/alone")
    weights = (alone / "adapter_model.safetensors").read_bytes()
    assert weights == (made.adapter("first") / "adapter_model.safetensors").read_bytes()
    one = published(made, "second", tmp_path, "me/one", "--one-adapter")
    config = json.loads((one / "adapter_config.json").read_text())
    assert (config["r"], config["lora_alpha"]) == (16, 16)


def test_published_chain_has_every_adapter_in_a_folder_and_none_that_loads_alone(made, tmp_path):
    chain = published(made, "over", tmp_path, "me/chain")
    assert not (chain / "adapter_config.json").exists()
    for number, name in enumerate(("first", "second", "over"), 1):
        adapter = chain / f"adapter-{number}"
        weights = (adapter / "adapter_model.safetensors").read_bytes()
        assert weights == (made.adapter(name) / "adapter_model.safetensors").read_bytes()
    named = json.loads((chain / "adapter-3" / "adapter_config.json").read_text())
    assert named["base_model_name_or_path"] == "demo with adapter-1 and adapter-2 (see README.md)"
    facts = json.loads((chain / "raylab.json").read_text())
    assert facts["merged_parents"] == ["adapter-1"] and facts["stacked_parents"] == ["adapter-2"]


def test_published_merged_chain_has_the_bits_of_peft_and_is_no_adapter(made, tmp_path):
    folder = published(made, "second", tmp_path, "me/whole", "--merged")
    assert not (folder / "adapter_config.json").exists()
    expected = merged_by_peft(made.base, *map(made.adapter, ("first", "second")))
    found = AutoModelForCausalLM.from_pretrained(folder, dtype="auto").state_dict()
    assert all(torch.equal(weight, expected[name]) for name, weight in found.items())


def test_card_tells_base_recipe_data_seed_metrics_norms_and_rounding(made, tmp_path):
    write_folder(find_finished_trial(made.reference("second")), "me/thing", tmp_path / "x")
    card = (tmp_path / "x" / "README.md").read_text()
    identity = made.trials["second"].identity
    for part in (
        "library_name: peft",
        "- dpo",
        "- sft",
        f"`{identity['base_model']}`",
        f"| data, chosen | D0 ({identity['data.chosen']}) |",
        f"| data, rejected | D1 ({identity['data.rejected']}) |",
        "| seed | 42 |",
        "| lora.alpha | 128 |",
        "| training.beta | 0.3 |",
        "| training loss | 0.75 |",
        "| L2 of the task vector | 2.25 |",
        "| in Japanese | 0.25 |",
        "| D0 | -1.5 | 30 |",
        "**Marked**: answers in Japanese: 25 %",
        "the base model into which adapter-1 was merged",
        "Its answers were not compared with those that its trial recorded: not asked for",
        f"`{made.trials['second'].id}`, after `{made.trials['first'].id}`",
    ):
        assert part in card, part
    assert str(tmp_path) not in card and "/data/" not in card
    facts = json.loads((tmp_path / "x" / "raylab.json").read_text())
    assert [training["name"] for training in facts["trainings"]] == [
        "demo.first.s42",
        "demo.second.s42",
    ]


def test_card_of_a_merged_chain_says_what_is_rounded(made, tmp_path):
    write_folder(
        find_finished_trial(made.reference("second")), "me/thing", tmp_path / "x", merged=True
    )
    card = (tmp_path / "x" / "README.md").read_text()
    assert "rounded to their dtype, one after the other" in card
    assert "pipeline_tag: text-generation" in card


def test_folder_that_is_there_is_not_touched(made, tmp_path):
    (tmp_path / "x").mkdir()
    with pytest.raises(OutError):
        write_folder(find_finished_trial(made.reference("first")), "me/thing", tmp_path / "x")
    assert not list((tmp_path / "x").iterdir())


def test_folder_of_a_chain_that_cannot_be_one_adapter_leaves_nothing(made, tmp_path):
    config = made.adapter("first") / "adapter_config.json"
    found = find_finished_trial(made.reference("second"))
    config.write_text(json.dumps(json.loads(config.read_text()) | {"use_dora": True}))
    with pytest.raises(ModelError, match="more than LoRA"):
        write_folder(found, "me/thing", tmp_path / "x", one_adapter=True)
    assert not [path for path in tmp_path.iterdir() if "x" in path.name]


@pytest.mark.parametrize("reference", ["somewhere", "OUT#demo", "OUT#demo.third.s42"])
def test_reference_that_is_no_trial_is_refused(made, reference):
    with pytest.raises(ModelError):
        find_finished_trial(reference.replace("OUT", str(made.out)))


DATED = "{{ strftime_now('%d %b %Y') }}\n"


def test_published_template_prints_the_studys_date_and_the_card_says_so(
    made, copied_base, study_text, tmp_path
):
    template = copied_base / "chat_template.jinja"
    text = template.read_text()
    template.write_text(DATED + text)
    study = study_text.replace(str(made.base), str(copied_base))
    other = Made(tmp_path / "out2", copied_base, f"template_date: 2025-01-31\n{study}{RECIPES}")
    folder = tmp_path / "folder"
    write_folder(find_finished_trial(other.reference("first")), "me/thing", folder)
    assert "prints 2025-01-31 in place of today's date" in (folder / "README.md").read_text()
    assert json.loads((folder / "raylab.json").read_text())["template_date"] == "2025-01-31"
    chat = [{"role": "user", "content": "Hi?"}]
    as_it_was = AutoTokenizer.from_pretrained(made.base).apply_chat_template(chat, tokenize=False)
    said = AutoTokenizer.from_pretrained(folder).apply_chat_template(chat, tokenize=False)
    assert said == "31 Jan 2025\n" + as_it_was


def test_published_template_without_a_date_is_the_base_models_own(made, tmp_path):
    folder = published(made, "first", tmp_path, "me/plain")
    own = (made.base / "chat_template.jinja").read_text()
    assert (folder / "chat_template.jinja").read_text() == own
    assert "today's date" not in (folder / "README.md").read_text()
