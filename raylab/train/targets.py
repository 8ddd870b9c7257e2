"""What an adapter of a study reaches in its base model, asked of PEFT before any training.

Model: transformers keeps experts and routers as parameters, not as layers. PEFT rewrites
`target_modules` for some of these architectures to `target_parameters`, and reaches attention
alone in others. `reach` puts the adapter on the architecture without storage, and says what PEFT
did, or refuses what cannot be trained or reduced: dropout on parameters, one half of a fused pair,
names that the model lacks, layers that PEFT does not take or that give more than one tensor, a
frozen parent's adapter of parameters, weights that the files hold in a way that is not read.
Invariant: nothing is asked where the answer is known (`raylab.train.known_targets`); no weight is
read, and no code that came with a model runs.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from raylab.errors import ModelError
from raylab.number_format import size
from raylab.plan.memory import DTYPE_BYTES
from raylab.plan.model_shapes import config_of, is_mixture
from raylab.plan.trials import Inputs, Trial
from raylab.spec.sources import BaseModelRef
from raylab.spec.study import Lora, Quantization, Study
from raylab.spec.weight_files import read_json
from raylab.train.known_targets import needs_answer, trials_to_ask
from raylab.train.target_checks import check_reached, endings, kinds
from raylab.weights.memory_names import auto_class_of, without_storage


def lora_config(lora: Lora) -> Any:
    """The `peft.LoraConfig` of an adapter."""
    from peft import LoraConfig

    modules = lora.target_modules
    return LoraConfig(
        r=lora.r,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=modules if isinstance(modules, str) else list(modules),
        use_rslora=lora.rslora,
        task_type="CAUSAL_LM",
    )


@dataclass(frozen=True)
class Reach:
    """What an adapter reaches. modules, parameters: their names behind the number of the layer.

    not_linear: those of the modules that are no linear layers, as embeddings. linear, others: the
    entries of weights of linear layers, and of everything else.
    """

    modules: tuple[str, ...]
    parameters: tuple[str, ...]
    not_linear: tuple[str, ...]
    linear: int
    others: int

    @property
    def text(self) -> str:
        """All of them: self_attn.q_proj, mlp.experts.down_proj."""
        return ", ".join((*self.modules, *self.parameters))


def targets_of(model: Any) -> str:
    """What the adapter of a PEFT model reaches, as `Reach.text`."""
    modules, parameters = model.targeted_module_names, model.targeted_parameter_names
    return ", ".join((*kinds(modules), *kinds(parameters)))


def check_targets(study: Study, inputs: Inputs, trials: Sequence[Trial]) -> list[str]:
    """A line for each base model and adapter of `study` that PEFT is asked about: what it reaches.

    Raises ModelError for what cannot be trained or reduced.
    """
    by_name = {trial.name: trial for trial in trials}
    lines: dict[str, None] = {}
    for trial in trials_to_ask(study, inputs, trials):
        base, lora = inputs.base_models[trial.base_model], trial.variant.lora
        assert base.directory is not None
        found = check_trial(base.directory, trial, by_name)
        if found is None:
            continue
        asked = lora.target_modules
        named = asked if isinstance(asked, str) else "[" + ", ".join(asked) + "]"
        lines[f"{trial.base_model}: target_modules {named} reaches {found.text}"] = None
        if is_mixture(config_of(base) or {}):
            lines[f"{trial.base_model}: {_held(found, study.quantization)}"] = None
    return list(lines)


def check_fetched(
    directory: Path, trial: Trial, trials: Mapping[str, Trial], source: BaseModelRef
) -> None:
    """`check_trial` where the model at `directory` is transformers' own and needs an answer."""
    config = read_json(directory / "config.json", "a model's config")
    if needs_answer(config, trial.variant.lora) and not source.trust_remote_code:
        check_trial(directory, trial, trials)


def check_trial(directory: Path, trial: Trial, trials: Mapping[str, Trial]) -> Reach | None:
    """What the adapter of `trial` reaches in its base model; None for an architecture that
    transformers cannot make without weights, and that has no experts. Raises ModelError."""
    variant = trial.variant
    try:
        found = reach(directory, variant.lora)
    except _UnknownModelError:
        if is_mixture(read_json(directory / "config.json", "a model's config")):
            raise
        return None
    if found.parameters and variant.lora.dropout:
        raise ModelError(
            "dropout on experts cannot be trained",
            found=f"lora.dropout {variant.lora.dropout} for {trial.name}, whose target_modules "
            f"reach the parameters {', '.join(found.parameters)}",
            expected="dropout 0: PEFT applies dropout to the inputs of layers, and experts are "
            "parameters",
            todo="set `lora: {dropout: 0}`, or name the layers of attention alone: "
            f"`target_modules: [{', '.join(endings(found.modules))}]`",
        )
    for name in trial.lineage if variant.chain == "stack" else ():
        below = reach(directory, trials[name].variant.lora)
        if below.parameters:
            raise ModelError(
                "a parent's adapter of experts cannot stay beside a new one",
                found=f"chain: stack in {trial.name}, over {name}, which changes "
                f"{', '.join(below.parameters)}",
                expected="layers, to whose outputs the parent's term is added",
                todo="use `chain: merge`, which merges the parent into the base model",
            )
    return found


def reach(directory: Path, lora: Lora) -> Reach:
    """What an adapter with the fields `lora` reaches in the model at `directory`.

    Raises ModelError where PEFT cannot put it on.
    """
    return _reach(directory, lora.r, lora.target_modules)


@lru_cache(maxsize=32)
def _reach(directory: Path, r: int, target_modules: str | tuple[str, ...]) -> Reach:
    with _quiet():
        return _ask_peft(directory, r, target_modules)


class _UnknownModelError(ModelError):
    """transformers cannot make the model from its config alone."""


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the advice of libraries, which concerns a training and not the question here."""
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    import transformers

    before = transformers.logging.get_verbosity()
    transformers.logging.set_verbosity_error()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        transformers.logging.set_verbosity(before)


def _ask_peft(directory: Path, r: int, target_modules: str | tuple[str, ...]) -> Reach:
    import torch
    from peft import get_peft_model

    auto_class = auto_class_of(directory)
    try:
        model = without_storage(directory, auto_class)
    except ModelError as error:
        raise _UnknownModelError(
            error.what, found=error.found, expected=error.expected, todo=error.todo
        ) from error
    linear = sum(m.weight.numel() for m in model.modules() if isinstance(m, torch.nn.Linear))
    entries = sum(parameter.numel() for parameter in model.parameters())
    head = model.get_output_embeddings()
    if isinstance(head, torch.nn.Linear):
        linear -= head.weight.numel()
    settings = lora_config(Lora(r=r, dropout=0, target_modules=target_modules))
    try:
        with torch.device("meta"):
            adapted = get_peft_model(model, settings)
    except (NotImplementedError, ValueError) as error:
        raise ModelError(
            "the adapter's targets cannot be reached in the base model",
            found=f"{directory}: {' '.join(str(error).split())}",
            expected="target_modules that PEFT finds in it, and takes",
            todo="name other modules as `lora: {target_modules: [...]}`, of fused experts both "
            "halves",
        ) from error
    check_reached(directory, adapted, target_modules, auto_class)
    names = adapted.targeted_module_names
    modules, parameters = kinds(names), kinds(adapted.targeted_parameter_names)
    not_linear = kinds([name for name in names if not _is_linear(adapted, name)])
    return Reach(modules, parameters, not_linear, linear, entries - linear)


def _is_linear(adapted: Any, name: str) -> bool:
    import torch
    from transformers.pytorch_utils import Conv1D

    layer = adapted.get_submodule(f"base_model.model.{name}").base_layer
    return isinstance(layer, torch.nn.Linear | Conv1D)


def _held(found: Reach, quantization: Quantization) -> str:
    """How training holds the model's weights, and in how much memory."""
    width = DTYPE_BYTES[quantization.compute_dtype]
    if quantization.bits == 16:
        return f"weights take {size(width * (found.linear + found.others))}"
    weights = found.linear // 2 + found.linear // 16 + width * found.others
    return (
        f"4 bits hold {found.linear:,} of {found.linear + found.others:,} entries; experts, which "
        f"are no layers, stay in {quantization.compute_dtype}: weights take {size(weights)}"
    )
