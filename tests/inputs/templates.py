"""Small chat templates that behave as those of published models do; none is a copy of one."""

from __future__ import annotations

# The system prompt joins the last message, and only if the user wrote it (Mistral 7B v0.2, v0.3).
SYSTEM_IN_LAST_USER = (
    "{{ bos_token }}{% set ns = namespace(system='') %}"
    "{% for m in messages %}"
    "{% if m.role == 'system' %}{% set ns.system = m.content + '\\n\\n' %}"
    "{% elif m.role == 'user' %}"
    "[INST] {% if loop.last %}{{ ns.system }}{% endif %}{{ m.content }} [/INST]"
    "{% elif m.role == 'assistant' %} {{ m.content }}{{ eos_token }}"
    "{% else %}{{ raise_exception('Only system, user and assistant roles are supported.') }}"
    "{% endif %}{% endfor %}"
)
# No system role, and roles that alternate (Gemma, Gemma 2).
NO_SYSTEM = (
    "{{ bos_token }}"
    "{% if messages[0].role == 'system' %}{{ raise_exception('System role not supported') }}"
    "{% endif %}{% for m in messages %}"
    "{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Roles must alternate user/assistant/user') }}{% endif %}"
    "{% set role = 'model' if m.role == 'assistant' else m.role %}"
    "<start_of_turn>{{ role }}\n{{ m.content | trim }}<end_of_turn>\n{% endfor %}"
    "{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}"
)
# A header with today's date; tools in the first user's turn; one call at a time (Llama 3.2).
DATED_WITH_TOOLS = (
    "{{ bos_token }}"
    "{% if not date_string is defined %}"
    "{% if strftime_now is defined %}{% set date_string = strftime_now('%d %b %Y') %}"
    "{% else %}{% set date_string = '26 Jul 2024' %}{% endif %}{% endif %}"
    "{% if messages[0].role == 'system' %}{% set system = messages[0].content %}"
    "{% set messages = messages[1:] %}{% else %}{% set system = '' %}{% endif %}"
    "<|start_header_id|>system<|end_header_id|>\n\nToday Date: {{ date_string }}\n\n"
    "{{ system }}<|eot_id|>"
    "{% for m in messages %}"
    "<|start_header_id|>{{ 'ipython' if m.role == 'tool' else m.role }}<|end_header_id|>\n\n"
    "{% if m.tool_calls %}"
    "{% if m.tool_calls | length != 1 %}"
    "{{ raise_exception('This model only supports single tool-calls at once!') }}{% endif %}"
    "{% set f = m.tool_calls[0].function %}"
    '{"name": "{{ f.name }}", "parameters": {{ f.arguments | tojson }}}'
    "{% else %}"
    "{% if loop.first and tools %}Call one of: {{ tools | tojson }}\n{% endif %}"
    "{{ m.content | trim }}{% endif %}<|eot_id|>{% endfor %}"
    "{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}"
)
# Reasoning stays in the answers after the last question only, and the last answer always has a
# block for it; tools and calls are framed (Qwen3).
FORGETS_REASONING = (
    "{% if tools %}<|im_start|>system\n{{ tools | tojson }}<|im_end|>\n{% endif %}"
    "{% set ns = namespace(last=-1) %}"
    "{% for m in messages %}{% if m.role == 'user' %}{% set ns.last = loop.index0 %}{% endif %}"
    "{% endfor %}"
    "{% for m in messages %}<|im_start|>{{ m.role }}\n"
    "{% if m.role == 'assistant' and loop.index0 > ns.last %}"
    "{% if loop.last or m.reasoning_content %}"
    "<think>\n{{ m.reasoning_content or '' }}\n</think>\n\n{% endif %}{% endif %}"
    "{{ m.content }}"
    "{% for call in m.tool_calls or [] %}<tool_call>{{ call.function | tojson }}</tool_call>"
    "{% endfor %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
# The text of a message is a list of parts, and nothing else is shown (LLaVA, SmolVLM, Idefics 3).
_PARTS = (
    "{% for part in m.content %}{% if part.type == 'text' %}{{ part.text }}{% endif %}{% endfor %}"
)
_OF_TYPE = (
    "{% for part in m.content | selectattr('type', 'equalto', 'text') %}{{ part['text'] }}"
    "{% endfor %}"
)
PARTS_ALONE = {
    name: (
        "{{ bos_token }}{% for m in messages %}<|im_start|>{{ m.role }}\n"
        f"{{% if m.role == 'assistant' %}}{{% generation %}}{said}<|im_end|>{{% endgeneration %}}"
        f"{{% else %}}{said}<|im_end|>{{% endif %}}\n{{% endfor %}}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )
    for name, said in {
        "each part": _PARTS,
        "parts of a type": _OF_TYPE,
        "first part": "{{ m.content[0].text }}",
        "no text": (
            "{% if m.content is string %}{{ raise_exception('parts!') }}{% endif %}" + _PARTS
        ),
    }.items()
}
# Calls whose arguments are texts, in messages that have no content, not even an empty one
# (DeepSeek V3 and R1).
CALLS_OF_TEXT = {
    name: (
        "{% if tools %}<|im_start|>tools\n{{ tools | tojson }}<|im_end|>\n{% endif %}"
        "{% for m in messages %}<|im_start|>{{ m.role }}\n"
        f"{{% if m.role == 'assistant' and {asks} %}}"
        "{% for call in m.tool_calls %}"
        f"{{{{ 'call ' + call.function.name + ' with ' + {arguments} }}}}{{% endfor %}}"
        "{% else %}{{ m.content }}{% endif %}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )
    for name, asks, arguments in (
        ("text", "m.tool_calls", "call.function.arguments"),
        ("no content", "m.content is none", "call.function.arguments | tojson"),
        ("both", "m.content is none", "call.function.arguments"),
    )
}
