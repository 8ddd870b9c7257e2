"""The study: everything asked, as frozen pydantic models.

Model: a study names base models, data sets, recipes and seeds; every combination of a base
model, a recipe and a seed is one trial. Comparisons name pairs whose difference is reduced.
Defaults are the values of the study that raylab was made for (QLoRA with r = 8, alpha = 128 on
all linear layers; 3 epochs, batch 2, Adam, 1e-5, cosine; DPO beta = 0.3).
Invariant: a Study is valid field by field; what it says across fields is checked by
`raylab.spec.references`. Nothing here touches a file.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, create_model, model_validator

Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=80)]
Density = Annotated[float, Field(gt=0, le=1)]
Method = Literal["sft", "dpo"]
Chain = Literal["merge", "stack"]
Everything = Literal["all"]


class Frozen(BaseModel):
    """Base of all parts of a study: unknown fields are refused, values cannot change."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, allow_inf_nan=False, use_attribute_docstrings=True
    )


def _absolute(path: str | None, root: Path) -> str | None:
    return None if path is None else str((root / Path(path).expanduser()).resolve())


class Located(Frozen):
    """Something at a local path or on a hub, exactly one of the two."""

    path: str | None = None
    """A local path, relative to the study file."""
    hub: str | None = None
    """A Hugging Face id."""
    revision: str | None = None
    """A commit, tag or branch of the hub id; a commit makes the study reproducible."""

    @model_validator(mode="after")
    def _one_place(self) -> Self:
        if (self.path is None) == (self.hub is None):
            raise ValueError("give exactly one of `path` and `hub`")
        if self.revision is not None and self.hub is None:
            raise ValueError("`revision` belongs to a `hub` id")
        return self

    def anchored(self, root: Path) -> Self:
        """The same with its path made absolute from `root`."""
        return self.model_copy(update={"path": _absolute(self.path, root)})


class BaseModelRef(Located):
    """A base model: what training starts from."""

    trust_remote_code: bool = False
    """Run the Python code that comes with the model. Off unless you have read it."""


class FinishedModel(Located):
    """A model that joins comparisons and is never trained: a checkpoint or an adapter."""

    base_model: Name
    """The study's base model that it came from."""
    method: str = "unknown"
    data: str = "unknown"
    seed: int | None = None


class DataSet(Frozen):
    """Rows with a prompt and a completion: a file, a hub id, or other data sets in a row."""

    path: str | None = None
    """A .jsonl, .csv or .parquet file, relative to the study file."""
    hub: str | None = None
    """A Hugging Face data set id."""
    revision: str | None = None
    split: str = "train"
    """The split of the hub data set."""
    concat: tuple[Name, ...] | None = Field(default=None, min_length=1)
    """Names of data sets of this study, one after another."""
    prompt: str = "prompt"
    """The column that holds the prompt."""
    completion: str = "completion"
    """The column that holds the answer."""

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        given = [key for key in ("path", "hub", "concat") if getattr(self, key) is not None]
        if len(given) != 1:
            raise ValueError("give exactly one of `path`, `hub` and `concat`")
        return self

    def anchored(self, root: Path) -> Self:
        """The same with its path made absolute from `root`."""
        return self.model_copy(update={"path": _absolute(self.path, root)})


class Quantization(Frozen):
    """How the frozen base model is held while an adapter is trained on it (QLoRA)."""

    bits: Literal[4, 16] = 4
    """4: bitsandbytes, one `type`. 16: not quantised, held in `compute_dtype`."""
    type: Literal["nf4", "fp4"] = "nf4"
    double: bool = False
    """Quantise the quantisation constants as well."""
    compute_dtype: Literal["float32", "bfloat16", "float16"] = "bfloat16"
    """Dtype of activations and of everything that is not quantised."""


class Lora(Frozen):
    """The adapter: delta W = (alpha / r) B A (Hu et al. 2021, arXiv:2106.09685)."""

    r: int = Field(default=8, ge=1)
    alpha: float = Field(default=128, gt=0)
    dropout: float = Field(default=0.05, ge=0, lt=1)
    target_modules: Literal["all-linear"] | tuple[str, ...] = "all-linear"
    """All linear layers but the output head, or the endings of module names."""
    rslora: bool = False
    """Scale by alpha / sqrt(r) instead (Kalajdzievski 2023, arXiv:2312.03732)."""


class Training(Frozen):
    """One training's parameters."""

    epochs: float = Field(default=3, gt=0)
    batch_size: int = Field(default=2, ge=1)
    """Examples per step on the device."""
    gradient_accumulation: int = Field(default=1, ge=1)
    """Batches added up before each update."""
    learning_rate: float = Field(default=1e-5, gt=0)
    scheduler: Literal["cosine", "linear", "constant"] = "cosine"
    warmup_ratio: float = Field(default=0, ge=0, lt=1)
    """The share of all steps over which the learning rate rises from 0."""
    optimizer: Literal["adam"] = "adam"
    weight_decay: float = Field(default=0, ge=0)
    max_grad_norm: float = Field(default=1.0, gt=0)
    max_length: int = Field(default=1024, ge=8)
    """Tokens of prompt and answer together; longer examples are cut at the end."""
    gradient_checkpointing: bool = False
    beta: float = Field(default=0.3, gt=0)
    """DPO only: the strength of the pull towards the reference model."""


def _overrides(model: type[Frozen]) -> Any:
    """A model with the fields and bounds of `model`, all optional and None where not given."""
    fields: dict[str, Any] = {
        key: (Annotated[(info.annotation, *info.metadata, key)] | None, None)
        for key, info in model.model_fields.items()
    }
    return create_model(f"Some{model.__name__}", __base__=Frozen, **fields)


class TrainingOverrides(_overrides(Training)):  # type: ignore[misc]
    """Training parameters that replace the study's."""


class LoraOverrides(_overrides(Lora)):  # type: ignore[misc]
    """Adapter parameters that replace the study's."""


class Recipe(Frozen):
    """One named training: method, data, parent and hyperparameters."""

    method: Method
    data: Name | None = None
    """SFT: the data set."""
    chosen: Name | None = None
    """DPO: the data set whose answers are preferred."""
    rejected: Name | None = None
    """DPO: the data set, aligned by prompt, whose answers are not."""
    parent: str | None = None
    """The recipe whose trained model this one starts from; none: the base model."""
    chain: Chain = "merge"
    """merge: the parent is merged into the base, then quantised. stack: the parent's adapter
    stays, frozen, beside the new one."""
    training: TrainingOverrides = TrainingOverrides()
    lora: LoraOverrides = LoraOverrides()
    sweep: dict[str, tuple[bool | int | float | str, ...]] = Field(default_factory=dict)
    """Training parameters (or `lora.<parameter>`) and the values to try, one recipe each."""

    @model_validator(mode="after")
    def _data_of_method(self) -> Self:
        needed = {"sft": {"data"}, "dpo": {"chosen", "rejected"}}[self.method]
        given = {key for key in ("data", "chosen", "rejected") if getattr(self, key) is not None}
        if needed != given:
            fields = " and ".join(f"`{key}`" for key in sorted(needed))
            raise ValueError(f"method {self.method} takes {fields}")
        return self

    @property
    def data_sets(self) -> dict[str, str]:
        """The data sets by the part that they play: data, or chosen and rejected."""
        parts = {"data": self.data, "chosen": self.chosen, "rejected": self.rejected}
        return {part: name for part, name in parts.items() if name is not None}


class Comparison(Frozen):
    """Pairs of models whose difference is reduced: exactly one of the four fields.

    Pairs are made within one base model, and for each seed, never across base models.
    """

    pair: tuple[str, str] | None = None
    """Two recipes (or models), compared at each seed."""
    base: tuple[str, ...] | Everything | None = None
    """Recipes (or models) against their base model."""
    seeds: tuple[str, ...] | Everything | None = None
    """Recipes, each seed against each other seed."""
    pairs: tuple[str, ...] | Everything | None = None
    """All pairs among these recipes (or models), at each seed."""

    @model_validator(mode="after")
    def _one_form(self) -> Self:
        given = [key for key in type(self).model_fields if getattr(self, key) is not None]
        if len(given) != 1:
            raise ValueError("give exactly one of `pair`, `base`, `seeds` and `pairs`")
        return self


class Evaluation(Frozen):
    """What a trained model is asked. It changes no adapter, so it is no part of a trial's id."""

    prompts: int = Field(default=32, ge=0)
    """How many held-out prompts are answered, greedily."""
    max_new_tokens: int = Field(default=64, ge=1)
    style: str | None = None
    """The ending rule that `style_rate` counts; one of `raylab.spec.styles.STYLES`."""
    every_epochs: float | None = Field(default=1.0, gt=0)
    """How often the held-out loss is taken while training; null: only at the end."""


class Resources(Frozen):
    """What one trial takes on a cluster."""

    gpus: float = Field(default=1, gt=0)
    """GPUs per trial, where there are any."""
    cpus: int = Field(default=1, ge=1)
    """CPU cores per trial, which is also its number of threads."""


class Study(Frozen):
    """Everything asked."""

    name: Name
    base_models: dict[Name, BaseModelRef] = Field(min_length=1)
    data: dict[Name, DataSet] = Field(min_length=1)
    held_out: float = Field(default=0.1, ge=0, lt=1)
    """The share of prompts kept from training, chosen by the prompt's text alone."""
    recipes: dict[Name, Recipe] = Field(default_factory=dict)
    seeds: tuple[int, ...] = Field(default=(42, 100), min_length=1)
    quantization: Quantization = Quantization()
    lora: Lora = Lora()
    training: Training = Training()
    comparisons: tuple[Comparison, ...] = ()
    densities: tuple[Density, ...] = (0.1, 0.2, 0.5, 1.0)
    models: dict[Name, FinishedModel] = Field(default_factory=dict)
    """Finished models, which join comparisons and are never trained."""
    evaluation: Evaluation = Evaluation()
    resources: Resources = Resources()

    def anchored(self, root: Path) -> Study:
        """The same study with every path made absolute from `root`."""
        return self.model_copy(
            update={
                key: {name: item.anchored(root) for name, item in getattr(self, key).items()}
                for key in ("base_models", "data", "models")
            }
        )
