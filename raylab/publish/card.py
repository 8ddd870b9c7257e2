"""The model card: Markdown with a YAML head, made of facts.

Model: what it is and what it was rounded to, how it is loaded, then one part for each training,
the oldest first, and what the model said.
Invariant: a pure function of the facts and of the repository's name; the lines that load the
model are those that a test runs.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from raylab.publish.provenance import Facts, Training

_FORMS = {
    "adapter": (
        "A LoRA adapter. Nothing was rounded: its delta, scale * B A in float32, is what "
        "training made.",
    ),
    "concatenated": (
        "A chain of trainings as one LoRA adapter: the factors of all of them side by side, "
        "with their scales folded into B, so that ranks add up and its delta is the sum of "
        "theirs, up to float32 rounding.",
        "Its child was trained on its parent merged into the base model and rounded to the base "
        "model's dtype (or, stacked, on the parent's adapter itself); here nothing is rounded "
        "in between, so a model that carries this adapter differs from the merged one (`raylab "
        "publish --merged`) by that rounding.",
    ),
    "merged": (
        "A whole model: each adapter was added to the weights in float32 and rounded to their "
        "dtype, one after the other, as PEFT's `merge_and_unload` does on a CPU. What is smaller "
        "than half a step of that dtype is lost; the adapter (`raylab publish` without "
        "`--merged`) has all of it.",
    ),
    "merge": (
        "A whole model merged of several, rounded once to the base model's dtype; `merge.json` "
        "says how.",
    ),
}
_NORMS = {
    "l1": "L1 of the task vector",
    "l2": "L2 of the task vector",
    "l2_parent": "L2 of the parent's part",
    "l2_child": "L2 of its own part",
}
_RATES = {
    "count": "answers",
    "japanese_rate": "in Japanese",
    "stopped_rate": "ended by themselves",
    "repetition_rate": "repeat themselves",
    "style_rate": "in style",
    "distinct_rate": "distinct",
    "answer_length": "characters",
    "answer_tokens": "tokens",
}
_METRICS = {
    "train_loss": "training loss",
    "eval_loss": "held-out loss",
    "steps": "steps",
    "micro_batch": "micro-batch",
}


def card_of(repo: str, facts: Facts) -> str:
    """The card of the repository `repo`."""
    parts = [*_head(facts), f"# {repo.rpartition('/')[2]}", "", *_body(repo, facts)]
    return "\n".join(parts).rstrip() + "\n"


def is_whole(facts: Facts) -> bool:
    """Whether it is a model of its own, and no adapter."""
    return facts.form in ("merged", "merge")


def _head(facts: Facts) -> Iterator[str]:
    yield from ("---", f"library_name: {'transformers' if is_whole(facts) else 'peft'}")
    if facts.hub:
        relation = {"merge": "merge", "merged": "finetune"}.get(facts.form, "adapter")
        yield from (f"base_model: {facts.hub}", f"base_model_relation: {relation}")
    if is_whole(facts):
        yield "pipeline_tag: text-generation"
    methods = {str(training.settings.get("method", "merge")) for training in facts.trainings}
    yield from ("tags:", "- raylab", *(f"- {method}" for method in sorted(methods)))
    yield from ("---", "")


def _body(repo: str, facts: Facts) -> Iterator[str]:
    yield from (f"Made with raylab {facts.raylab}.", "")
    for words in _FORMS[facts.form]:
        yield from (words, "")
    if facts.difference is not None:
        much = f"{facts.difference:.2g}"
        yield f"Largest difference from the chain's sum: {much} of the sum's largest entry."
        yield ""
    if facts.marks:
        yield from (f"**Marked**: {facts.marks}.", "")
    yield from _base(facts)
    yield from ("## Loading it", "", "```python", *loading_lines(repo, facts), "```", "")
    for training in facts.trainings:
        yield from _training(training)
    yield from _said(facts)


def _base(facts: Facts) -> Iterator[str]:
    revision = f", revision `{facts.revision}`" if facts.revision else ""
    where = f"[{facts.hub}](https://huggingface.co/{facts.hub})" if facts.hub else facts.base_model
    local = "" if facts.hub else " (a local checkpoint)"
    yield f"Base model: {where}{local}{revision}; identity `{facts.base_identity}`."
    yield ""


def loading_lines(repo: str, facts: Facts) -> list[str]:
    """The Python that loads it, with plain peft and transformers."""
    revision = f', revision="{facts.revision}"' if facts.revision else ""
    tokenizer = f'tokenizer = AutoTokenizer.from_pretrained("{repo}")'
    if is_whole(facts):
        return [
            "from transformers import AutoModelForCausalLM, AutoTokenizer",
            "",
            f'model = AutoModelForCausalLM.from_pretrained("{repo}", dtype="auto")',
            tokenizer,
        ]
    base = f'"{facts.base_named}"{revision}, dtype="auto"'
    return [
        "from peft import PeftModel",
        "from transformers import AutoModelForCausalLM, AutoTokenizer",
        "",
        f"base = AutoModelForCausalLM.from_pretrained({base})",
        f'model = PeftModel.from_pretrained(base, "{repo}")',
        tokenizer,
    ]


def _training(training: Training) -> Iterator[str]:
    after = f", after `{training.parent}`" if training.parent else ""
    yield from (f"## {training.name}", "", f"Trial `{training.id}`{after}.", "")
    data = {
        part if part == "data" else f"data, {part}": name for part, name in training.data.items()
    }
    yield from _table(("setting", "value"), {**data, **training.settings}.items())
    known = {**_METRICS, **_NORMS}
    found = [(known[k], training.metrics[k]) for k in known if k in training.metrics]
    yield from _table(("measured", "value"), found)
    if training.versions:
        listed = ", ".join(f"{name} {found}" for name, found in sorted(training.versions.items()))
        yield from (f"Made with {listed}.", "")


def _said(facts: Facts) -> Iterator[str]:
    if facts.answers:
        yield from (
            "## What it answers",
            "",
            "To held-out prompts; `expected`: the data's own.",
            "",
        )
        rows = [(w, *(kind.get(k) for kind in facts.answers.values())) for k, w in _RATES.items()]
        yield from _table(("", *facts.answers), rows)
    if facts.likelihoods:
        yield from ("Mean log-probability of a token of each data set's held-out answers:", "")
        rows = [(n, v["log_probability"], v["tokens"]) for n, v in facts.likelihoods.items()]
        yield from _table(("data set", "nats", "tokens"), rows)


def _table(columns: Sequence[str], rows: Any) -> Iterator[str]:
    lines = [f"| {' | '.join(map(_cell, row))} |" for row in rows]
    if lines:
        yield f"| {' | '.join(columns)} |"
        yield "|" + " --- |" * len(columns)
        yield from (*lines, "")


def _cell(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, Mapping | list | tuple):
        return ", ".join(map(str, value))
    return str(value).replace("|", "\\|")
