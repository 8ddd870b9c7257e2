"""What was written answers as the trial recorded, by the code of its card, or is not published."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys

import pytest

from raylab.publish.folder import write_folder
from raylab.publish.verify import VerifyError
from raylab.store.references import find_finished_trial
from tests.architectures import save_adapter
from tests.commands import exit_status
from tests.publish.conftest import QUESTIONS, RECIPES, Made

PAST = {"torch": "2.0.0", "peft": "0.21.2"}


def ran_as_printed(folder, place):
    """The output of the card's code in a process of its own, somewhere else."""
    (code,) = re.findall(r"```python\n(.*?)```", (folder / "README.md").read_text(), re.S)
    (place / "card.py").write_text(code)
    done = subprocess.run(
        [sys.executable, "card.py"],
        cwd=place, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["first", "over"])
def test_published_adapters_answer_by_their_card_as_the_trial_did(made, name, tmp_path, capsys):
    samples = made.record_answers(name)
    folder = tmp_path / "folder"
    words = ("publish", made.reference(name), "me/thing", "--dry-run", "--out", folder)
    assert exit_status(*words) == 0
    assert "3 of 3 recorded answers are the same" in capsys.readouterr().out
    card = (folder / "README.md").read_text()
    assert "**3 of the 3** greedy answers" in card
    assert re.search(r"the base model not quantised, in the dtype of its files \| \d of 3", card)
    (tmp_path / "elsewhere").mkdir()
    assert ran_as_printed(folder, tmp_path / "elsewhere") == samples[0].answer


@pytest.mark.slow
def test_published_adapter_over_a_base_with_decoding_settings_answers_as_the_trial_did(
    made, copied_base, study_text, tmp_path, capsys
):
    file = copied_base / "generation_config.json"
    settings = {"repetition_penalty": 1.9, "no_repeat_ngram_size": 1, "min_new_tokens": 9}
    file.write_text(json.dumps(json.loads(file.read_text()) | settings))
    text = study_text.replace(str(made.base), str(copied_base)) + RECIPES
    other = Made(tmp_path / "other", copied_base, text)
    shutil.copytree(made.adapter("first"), other.adapter("first"), dirs_exist_ok=True)
    samples = other.record_answers("first")
    plain = made.record_answers("first")
    assert [sample.token_ids for sample in samples] == [sample.token_ids for sample in plain]
    folder = tmp_path / "folder"
    words = ("publish", other.reference("first"), "me/thing", "--dry-run", "--out", folder)
    assert exit_status(*words) == 0
    assert "3 of 3 recorded answers are the same" in capsys.readouterr().out
    (tmp_path / "elsewhere").mkdir()
    assert ran_as_printed(folder, tmp_path / "elsewhere") == samples[0].answer


@pytest.mark.slow
def test_published_whole_model_of_a_trial_counts_and_is_no_error(made, tmp_path):
    made.record_answers("second")
    trial = find_finished_trial(made.reference("second"))
    facts = write_folder(trial, "me/x", tmp_path / "x", merged=True, verified=True, local=True)
    assert facts.agreement.asked == 3 and facts.agreement.otherwise == {}
    assert "this whole model is not quantised" in (tmp_path / "x" / "README.md").read_text()
    assert ran_as_printed(tmp_path / "x", tmp_path)


@pytest.mark.slow
def test_model_that_answers_otherwise_is_refused_unless_libraries_are_others(
    made, tmp_path, capsys
):
    samples = made.record_answers("first")
    shutil.rmtree(made.adapter("first"))
    save_adapter(made.adapter("first"), made.base, 9, r=8, lora_alpha=128)
    (made.adapter("first") / "README.md").unlink()
    made.write_record("first")
    words = ("publish", made.reference("first"), "me/thing", "--dry-run", "--out", tmp_path / "x")
    assert exit_status(*words) == 1
    error = capsys.readouterr().err
    assert "does not answer as its trial did" in error and "Traceback" not in error
    assert f"recorded {samples[0].answer!r}" in error and samples[0].prompt in error
    assert not [path for path in tmp_path.iterdir() if "x" in path.name]

    made.write_record("first", versions=PAST)
    assert exit_status(*words) == 0
    assert re.search(
        r"Not as in the trial: torch \S+ instead of 2\.0\.0",
        (tmp_path / "x" / "README.md").read_text(),
    )


@pytest.mark.slow
def test_base_that_does_not_load_is_told_in_one_message_and_nothing_is_left(
    made, tmp_path, monkeypatch
):
    made.record_answers("first")
    trial = find_finished_trial(made.reference("first"))
    monkeypatch.setattr("raylab.publish.loading.Loading.code", lambda *_: "raise OSError('gone')\n")
    with pytest.raises(VerifyError, match="does not load by the code of its card"):
        write_folder(trial, "me/x", tmp_path / "x", verified=True)
    assert not [path for path in tmp_path.iterdir() if "x" in path.name]


def test_model_without_recorded_answers_says_so_and_is_written(made, tmp_path, capsys):
    words = ("publish", made.reference("first"), "me/thing", "--dry-run", "--out", tmp_path / "x")
    assert exit_status(*words) == 0
    assert "answers not compared: its trial recorded no answers" in capsys.readouterr().out


@pytest.mark.slow
def test_published_model_is_asked_with_the_tools_that_its_trial_was_asked_with(
    made, copied_base, study_text, tmp_path, capsys
):
    template = copied_base / "chat_template.jinja"
    shown = "{% if tools %}{{ tools | tojson }}\n{% endif %}{{ strftime_now('%Y') }}\n"
    template.write_text(shown + template.read_text())
    text = study_text.replace(str(made.base), str(copied_base)) + RECIPES
    other = Made(tmp_path / "other", copied_base, text)
    tools = '[{"type": "function", "function": {"name": "空", "strict": true}}]'
    questions = [QUESTIONS[0]._replace(tools=tools), QUESTIONS[1]]
    samples = other.record_answers("first", questions)
    assert samples[0].as_row()["tools"][0]["function"]["strict"] is True
    folder = tmp_path / "folder"
    words = ("publish", other.reference("first"), "me/thing", "--dry-run", "--out", folder)
    assert exit_status(*words) == 0
    assert "2 of 2 recorded answers are the same" in capsys.readouterr().out
    (tmp_path / "elsewhere").mkdir()
    assert ran_as_printed(folder, tmp_path / "elsewhere") == samples[0].answer
