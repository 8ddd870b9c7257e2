"""The code of a model card: it loads the model as its trial had it, and asks it a prompt.

Model: one Jinja2 template, loading.jinja beside this module, makes Python code that needs torch,
transformers, peft and bitsandbytes alone. The base model is quantised by the study's settings. A
chain begins as its training did: parents that were merged are merged into the base model and
rounded, and loaded anew; parents that were stacked stay beside the weights, each rounded by itself.
Invariant: `raylab publish --verify` runs the code that the card prints; only the two places differ
(where the base model and the published folder lie), and what a variant leaves out.
"""

from __future__ import annotations

import ast
import datetime
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from raylab.publish.provenance import Facts
from raylab.spec.data.prepared import DEFAULT_DATE
from raylab.spec.models import check_remote_code
from raylab.spec.sources import BaseModelRef
from raylab.spec.study import Quantization
from raylab.store.references import FinishedTrial

Variant = Literal["as_trained", "repacked", "not_quantised"]
"""as_trained: the card's own code. repacked: with what bitsandbytes does on some CPUs.
not_quantised: the base model in the dtype of its files."""

_QUESTION = "Hello"
"""Asked where the trial has recorded no prompt."""


@dataclass(frozen=True)
class Asked:
    """A conversation up to its answer, and the tools that the model may call."""

    chat: Sequence[Mapping[str, Any]]
    tools: Sequence[Any] | None = None


@dataclass(frozen=True)
class Loading:
    """All that the code of a card depends on, but the places.

    stop_tokens: those that end an answer; empty where the base model is not on this machine.
    """

    facts: Facts
    source: BaseModelRef
    quantization: Quantization
    max_new_tokens: int
    stop_tokens: tuple[int, ...]
    asked: Asked
    auto_class: str = "AutoModelForCausalLM"
    """The class of transformers that loads the base model."""
    with_tools: bool = False
    """Whether a recorded prompt has tools."""

    def code(self, published: str, base: Path | None, variant: Variant = "as_trained") -> str:
        """The code for the model at `published`: a folder, or a name on a hub.

        base: the base model's directory; None: as others name it.
        """
        from jinja2 import Environment, FileSystemLoader, StrictUndefined

        environment = Environment(
            loader=FileSystemLoader(Path(__file__).parent),
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        environment.filters["quoted"] = lambda value: json.dumps(value, ensure_ascii=False)
        environment.filters["literal"] = _literal
        facts, adapters = self.facts, self.facts.adapters
        as_trained = variant != "not_quantised"
        is_local = base is not None
        revision = f', revision="{facts.revision}"' if facts.revision and not is_local else ""
        return environment.get_template("loading.jinja").render(
            adapters=adapters,
            auto_class=self.auto_class,
            merged_parents=facts.merged_parents,
            stacked_parents=facts.stacked_parents,
            base=str(base) if is_local else facts.hub or facts.base_model,
            base_is_elsewhere=not is_local and facts.hub is None,
            published=published,
            quantization=self.quantization,
            quantized=bool(adapters) and self.quantization.bits == 4 and as_trained,
            as_trained=as_trained,
            repacked=variant == "repacked",
            revision=revision,
            trust=", trust_remote_code=True" if self.source.trust_remote_code else "",
            tokenizer="published" if self.stop_tokens else f"base_model{revision}",
            max_new_tokens=self.max_new_tokens,
            stop_tokens=list(self.stop_tokens),
            chat=list(map(dict, self.asked.chat)),
            tools=self.asked.tools,
            with_tools=self.with_tools,
        )


def _literal(value: Any) -> str:
    """A Python literal of a JSON value, in JSON's own spelling where that is the same."""
    text = json.dumps(value, ensure_ascii=False)
    try:
        is_same = ast.literal_eval(text) == value
    except (ValueError, SyntaxError):
        is_same = False  # null, true or false.
    return text if is_same else repr(value)


def loading_of(trial: FinishedTrial, facts: Facts) -> Loading:
    """The code's settings for a trial or merge that is published as `facts` say."""
    study = trial.study
    asked = [asked_of(row) for row in trial.greedy_answers]
    return Loading(
        facts=facts,
        source=study.base_models[trial.base_model],
        quantization=trial.quantization,
        max_new_tokens=study.evaluation.max_new_tokens,
        stop_tokens=_stop_tokens(trial),
        asked=asked[0] if asked else Asked([{"role": "user", "content": _QUESTION}]),
        auto_class=_auto_class(trial),
        with_tools=any(one.tools for one in asked),
    )


def _auto_class(trial: FinishedTrial) -> str:
    from raylab.weights.memory_names import AUTO_CLASSES, auto_class_of

    directory = trial.location.checkpoint or trial.location.base
    return auto_class_of(directory) if directory else AUTO_CLASSES[0]


def asked_of(sample: Mapping[str, Any]) -> Asked:
    """What was asked for the answer of a row of samples.jsonl."""
    if "chat" in sample:
        return Asked(sample["chat"], sample.get("tools"))
    turns = [*sample.get("earlier", ()), ["user", sample["prompt"]]]
    return Asked([{"role": role, "content": text} for role, text in turns])


def tokenizer_of(directory: Path, source: BaseModelRef, day: datetime.date = DEFAULT_DATE) -> Any:
    """The tokenizer at `directory` as training has it. Raises ModelError."""
    from transformers import AutoTokenizer

    from raylab.train.chat import fit_tokenizer

    trusted = source.trust_remote_code
    check_remote_code(directory, trusted)
    tokenizer = AutoTokenizer.from_pretrained(directory, trust_remote_code=trusted)
    return fit_tokenizer(tokenizer, source.template, directory, day)


def _stop_tokens(trial: FinishedTrial) -> tuple[int, ...]:
    """The tokens that end an answer of the model, as its evaluation counts them."""
    from transformers import AutoConfig, GenerationConfig

    from raylab.train.chat import end_of_answer

    directory = trial.location.checkpoint or trial.location.base
    if directory is None:
        return ()
    source = trial.study.base_models[trial.base_model]
    tokenizer = tokenizer_of(directory, source, trial.study.template_date)
    try:
        generation = GenerationConfig.from_pretrained(directory)
    except OSError:  # An older checkpoint keeps these settings in its config.
        config = AutoConfig.from_pretrained(directory, trust_remote_code=source.trust_remote_code)
        generation = GenerationConfig.from_model_config(config)
    known = generation.eos_token_id
    listed = known if isinstance(known, list) else [known]
    found = [*listed, tokenizer.eos_token_id, end_of_answer(tokenizer)]
    return tuple(dict.fromkeys(token for token in found if token is not None))
