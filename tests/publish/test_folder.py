"""What is published loads with plain peft and transformers, by the lines of its own card."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM

from raylab.cli import main
from raylab.errors import ModelError, OutError
from raylab.publish.folder import write_folder
from raylab.store.references import find_finished_trial
from tests.architectures import merged_by_peft

ASK = """
import sys, torch
ids = torch.arange(10, 60)[None]
with torch.no_grad():
    logits = model.float().eval()(ids).logits
torch.save(logits, "{name}.pt")
assert tokenizer.chat_template
assert "raylab" not in sys.modules
"""
IDS = torch.arange(10, 60)[None]


def by_their_cards(folders, base):
    """Logits of each model, loaded in one fresh process by the code of its own card.

    The process stands where the card's names lead: to the folders, and to the base model.
    """
    place = folders[0].parents[1]
    (place / "demo").symlink_to(base)
    code = "".join(_code(folder) + ASK.format(name=folder.name) for folder in folders)
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=place, env=environment, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return [torch.load(place / f"{folder.name}.pt") for folder in folders]


def _code(folder):
    (code,) = re.findall(r"```python\n(.*?)```", (folder / "README.md").read_text(), re.S)
    return code


def published(made, name, tmp_path, repo, *options):
    """The folder of `raylab publish --dry-run`, as if it lay on a hub."""
    folder = tmp_path / "hub" / repo
    arguments = [made.reference(name), repo, "--dry-run", "--out", str(folder), *options]
    main_ending_well(["publish", *arguments])
    return folder


def main_ending_well(arguments):
    with pytest.raises(SystemExit) as end:
        main(arguments)
    assert end.value.code == 0


def logits_of(model):
    with torch.no_grad():
        return model.float().eval()(IDS).logits


@pytest.mark.slow
def test_published_models_load_by_their_cards_without_raylab(made, tmp_path, capsys):
    alone = published(made, "first", tmp_path, "me/alone")
    chain = published(made, "second", tmp_path, "me/chain")
    assert "largest difference from the chain's sum" in capsys.readouterr().out
    whole = published(made, "second", tmp_path, "me/whole", "--merged")
    found = by_their_cards([alone, chain, whole], made.base)

    both = PeftModel.from_pretrained(
        AutoModelForCausalLM.from_pretrained(made.base, dtype="auto"), made.adapter("first")
    )
    assert torch.equal(found[0], logits_of(both))
    both.load_adapter(made.adapter("second"), "child")
    both.base_model.set_adapter(["default", "child"])
    expected = logits_of(both)
    assert torch.allclose(found[1], expected, atol=1e-4 * float(expected.abs().max()))
    merged = AutoModelForCausalLM.from_pretrained(whole, dtype="auto")
    assert torch.equal(found[2], logits_of(merged))


def test_published_adapter_is_the_trials_own_and_a_chain_has_both_ranks(made, tmp_path):
    alone = published(made, "first", tmp_path, "me/alone")
    weights = (alone / "adapter_model.safetensors").read_bytes()
    assert weights == (made.adapter("first") / "adapter_model.safetensors").read_bytes()
    chain = published(made, "second", tmp_path, "me/chain")
    config = json.loads((chain / "adapter_config.json").read_text())
    assert (config["r"], config["lora_alpha"]) == (16, 16)


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
        "here nothing is rounded in between",
        f"`{made.trials['second'].id}`, after `{made.trials['first'].id}`",
    ):
        assert part in card, part
    assert str(tmp_path) not in card and "/data/" not in card
    facts = json.loads((tmp_path / "x" / "raylab.json").read_text())
    assert [training["name"] for training in facts["trainings"]] == [
        "demo.first.s42",
        "demo.second.s42",
    ]
    assert facts["difference"] < 1e-14


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
        write_folder(found, "me/thing", tmp_path / "x")
    assert not [path for path in tmp_path.iterdir() if "x" in path.name]


@pytest.mark.parametrize("reference", ["somewhere", "OUT#demo", "OUT#demo.third.s42"])
def test_reference_that_is_no_trial_is_refused(made, reference):
    with pytest.raises(ModelError):
        find_finished_trial(reference.replace("OUT", str(made.out)))
