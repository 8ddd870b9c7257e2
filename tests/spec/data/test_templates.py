"""Which template a study names, and what that changes."""

from __future__ import annotations

import pytest
from transformers.utils.chat_template_utils import render_jinja_template

from raylab.errors import ModelError, StudyError
from raylab.plan.trials import plan_trials, read_inputs
from raylab.spec.data.templates import NAMED
from raylab.spec.models import check_base
from raylab.spec.sources import BaseModelRef
from raylab.spec.study_file import load_study
from tests.studies import write_study_folder

OWN = "{{ messages[0]['content'] }}"


def study_with(folder, template):
    place = {"path": "base"} | ({} if template is None else {"chat_template": template})
    return load_study(write_study_folder(folder, base_models={"tiny": place}))


def ids(folder, template):
    study = study_with(folder, template)
    return [trial.id for trial in plan_trials(study, read_inputs(study))]


def test_template_is_a_name_a_file_or_written_out(tmp_path):
    (tmp_path / "own.jinja").write_text(OWN)
    read = [study_with(tmp_path, t).base_models["tiny"] for t in ("chatml", "own.jinja", OWN)]
    assert [place.chat_template for place in read] == ["chatml", OWN, OWN]
    assert [place.template for place in read] == [NAMED["chatml"], OWN, OWN]
    assert study_with(tmp_path, None).base_models["tiny"].template is None


@pytest.mark.parametrize(("template", "words"), [("chatlm", "chatml"), ("none.jinja", "a file")])
def test_template_that_is_none_of_them_names_the_ones_there_are(tmp_path, template, words):
    with pytest.raises(StudyError, match=words) as error:
        study_with(tmp_path, template)
    assert template in str(error.value)
    (tmp_path / "empty.jinja").write_text("chatml")
    with pytest.raises(StudyError, match="holds none"):
        study_with(tmp_path, "empty.jinja")


TALK = [{"role": "user", "content": "Q1"}, {"role": "assistant", "content": "A1"}]
SYSTEM = {"role": "system", "content": "S"}


@pytest.mark.parametrize(
    ("name", "messages", "wanted"),
    [
        ("alpaca", TALK[:1], "<s>### Instruction:\nQ1\n\n### Response:\n"),
        (
            "alpaca",
            [SYSTEM, *TALK, *TALK[:1]],
            "<s>S\n\n### Instruction:\nQ1\n\n### Response:\nA1</s>\n\n### Instruction:\nQ1\n\n"
            "### Response:\n",
        ),
        ("exaone", TALK[:1], "[|system|][|endofturn|]\n[|user|]Q1\n[|assistant|]"),
        (
            "exaone",
            [SYSTEM, *TALK, *TALK[:1]],
            "[|system|]S[|endofturn|]\n[|user|]Q1\n[|assistant|]A1[|endofturn|]\n[|user|]Q1\n"
            "[|assistant|]",
        ),
    ],
)
def test_alpaca_and_exaone_frame_conversations_as_their_authors_write_them(name, messages, wanted):
    found, _ = render_jinja_template(
        [messages],
        chat_template=NAMED[name],
        add_generation_prompt=True,
        bos_token="<s>",
        eos_token="</s>",
    )
    assert found == [wanted]


def test_template_is_part_of_a_trials_identity_by_its_text(tmp_path):
    (tmp_path / "own.jinja").write_text(NAMED["chatml"])
    own, named, file, other = (ids(tmp_path, t) for t in (None, "chatml", "own.jinja", "gemma"))
    assert named == file
    assert not set(own) & set(named)
    assert not set(other) & set(named)


def test_base_model_without_template_is_refused_unless_the_study_names_one(tmp_path):
    write_study_folder(tmp_path)
    base = tmp_path / "base"
    check_base("tiny", base, BaseModelRef(path="base"))
    (base / "tokenizer_config.json").write_text("{}")
    with pytest.raises(ModelError, match=r"`chat_template:` under base_models\.tiny") as error:
        check_base("tiny", base, BaseModelRef(path="base"))
    assert "chatml" in str(error.value)
    check_base("tiny", base, BaseModelRef(path="base", chat_template="plain"))
    (base / "tokenizer_config.json").write_text('{"chat_template": "{{ 1 }}"}')
    check_base("tiny", base, BaseModelRef(path="base"))
