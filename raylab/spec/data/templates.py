"""Chat templates: how a prompt and its answer become one text for a model.

Model: a base model brings a template of its own; a study may name one of NAMED instead, a file, or
write one out. A template is Jinja, as transformers renders it: it is given `messages`,
`add_generation_prompt` and the tokenizer's `bos_token` and `eos_token`.
Invariant: each of NAMED renders a prompt with its generation prompt as the exact beginning of the
prompt with its answer, and ends the answer with a token that stops generation, inside the markers
of the assistant's text. The text of the template, not its name, is part of a trial's identity.
"""

from __future__ import annotations

from pathlib import Path

from raylab.errors import StudyError

NAMED: dict[str, str] = {
    # Qwen2.5, SmolLM2 and many others.
    "chatml": (
        "{% for message in messages %}"
        "{{ '<|im_start|>' + message['role'] + '\\n' }}"
        "{% if message['role'] == 'assistant' %}"
        "{% generation %}{{ message['content'] + '<|im_end|>' }}{% endgeneration %}"
        "{% else %}{{ message['content'] + '<|im_end|>' }}{% endif %}"
        "{{ '\\n' }}"
        "{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
    ),
    "llama-3": (
        "{{ bos_token }}"
        "{% for message in messages %}"
        "{{ '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n' }}"
        "{% if message['role'] == 'assistant' %}"
        "{% generation %}{{ message['content'] + '<|eot_id|>' }}{% endgeneration %}"
        "{% else %}{{ message['content'] + '<|eot_id|>' }}{% endif %}"
        "{% endfor %}"
        "{% if add_generation_prompt %}"
        "{{ '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}"
        "{% endif %}"
    ),
    # Mistral 7B Instruct v0.1 and v0.2, and models trained from them.
    "mistral": (
        "{{ bos_token }}"
        "{% for message in messages %}"
        "{% if message['role'] == 'assistant' %}"
        "{% generation %}{{ ' ' + message['content'] + eos_token }}{% endgeneration %}"
        "{% else %}{{ '[INST] ' + message['content'] + ' [/INST]' }}{% endif %}"
        "{% endfor %}"
    ),
    "gemma": (
        "{{ bos_token }}"
        "{% for message in messages %}"
        "{% if message['role'] == 'assistant' %}"
        "{{ '<start_of_turn>model\\n' }}"
        "{% generation %}{{ message['content'] + '<end_of_turn>' }}{% endgeneration %}"
        "{% else %}"
        "{{ '<start_of_turn>' + message['role'] + '\\n' + message['content'] + '<end_of_turn>' }}"
        "{% endif %}"
        "{{ '\\n' }}"
        "{% endfor %}"
        "{% if add_generation_prompt %}{{ '<start_of_turn>model\\n' }}{% endif %}"
    ),
    # The instruction format of Japanese StableLM Instruct Alpha.
    "instruct-ja": (
        "{{ '以下は、タスクを説明する指示と、文脈のある入力の組み合わせです。"
        "要求を適切に満たす応答を書きなさい。' }}"
        "{% for message in messages %}"
        "{% if message['role'] == 'assistant' %}"
        "{{ '\\n\\n### 応答: \\n' }}"
        "{% generation %}{{ message['content'] + eos_token }}{% endgeneration %}"
        "{% else %}{{ '\\n\\n### 指示: \\n' + message['content'] }}{% endif %}"
        "{% endfor %}"
        "{% if add_generation_prompt %}{{ '\\n\\n### 応答: \\n' }}{% endif %}"
    ),
    # Stanford Alpaca (Taori et al. 2023), several turns, with a system message in the place of its
    # opening sentence.
    "alpaca": (
        "{{ bos_token }}"
        "{% for message in messages %}"
        "{% if message['role'] == 'assistant' %}"
        "{{ '### Response:\\n' }}"
        "{% generation %}{{ message['content'] + eos_token }}{% endgeneration %}"
        "{% elif message['role'] == 'system' %}{{ message['content'] }}"
        "{% else %}{{ '### Instruction:\\n' + message['content'] }}{% endif %}"
        "{{ '\\n\\n' }}"
        "{% endfor %}"
        "{% if add_generation_prompt %}{{ '### Response:\\n' }}{% endif %}"
    ),
    # EXAONE 3.0 and 3.5 (LG AI Research 2024, arXiv:2408.03541, arXiv:2412.04862): a conversation
    # without a system message begins with an empty one, and a question has no end of turn.
    "exaone": (
        "{% if messages[0]['role'] != 'system' %}{{ '[|system|][|endofturn|]\\n' }}{% endif %}"
        "{% for message in messages %}"
        "{{ '[|' + message['role'] + '|]' }}"
        "{% if message['role'] == 'assistant' %}"
        "{% generation %}{{ message['content'] + '[|endofturn|]' }}{% endgeneration %}"
        "{% elif message['role'] == 'user' %}{{ message['content'] }}"
        "{% else %}{{ message['content'] + '[|endofturn|]' }}{% endif %}"
        "{{ '\\n' }}"
        "{% endfor %}"
        "{% if add_generation_prompt %}{{ '[|assistant|]' }}{% endif %}"
    ),
    # Asks nothing of a vocabulary but an end-of-sequence token: for models that never chatted.
    "plain": (
        "{{ bos_token }}"
        "{% for message in messages %}"
        "{% if message['role'] == 'assistant' %}"
        "{{ 'Assistant:\\n' }}"
        "{% generation %}{{ message['content'] + eos_token }}{% endgeneration %}"
        "{{ '\\n' }}"
        "{% else %}{{ 'User:\\n' + message['content'] + '\\n' }}{% endif %}"
        "{% endfor %}"
        "{% if add_generation_prompt %}{{ 'Assistant:\\n' }}{% endif %}"
    ),
}

_FORMS = "`chat_template:` a name, a .jinja file, or a template written out"


def is_template_text(template: str) -> bool:
    """Whether `template` is Jinja itself, not a name or a path."""
    return "{{" in template or "{%" in template


def read_template(template: str, root: Path) -> str:
    """A name or a template unchanged, or the content of a file; paths are relative to `root`.

    Raises StudyError where it is none of them.
    """
    if template in NAMED or is_template_text(template):
        return template
    file = root / Path(template).expanduser()
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise StudyError(
            "a chat template is not there",
            found=f"{template!r}: {error}",
            expected=f"one of {', '.join(NAMED)}; or a file; or a template written out",
            todo=f"mend {_FORMS}",
        ) from error
    if not is_template_text(text):
        raise StudyError(
            "a chat template's file holds none", found=str(file), expected="a Jinja template"
        )
    return text


def template_text(template: str | None) -> str | None:
    """The Jinja text that a study's `chat_template` stands for; None: the model's own."""
    return None if template is None else NAMED.get(template, template)
