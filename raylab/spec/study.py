"""The study: everything asked, as frozen pydantic models.

Model: a study names base models, data sets, recipes and seeds; every combination of a base
model, a recipe and a seed is one trial. Merges combine trials of one base model and seed.
Comparisons name pairs whose difference is reduced.
Invariant: a Study is valid field by field; rules across fields are checked by
`raylab.spec.validation`. Nothing here touches a file.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    Field,
    StrictBool,
    StrictFloat,
    StrictInt,
    create_model,
    model_validator,
)

from raylab.errors import StudyError
from raylab.spec.adapter_output import adapter_output
from raylab.spec.connectivity import Connectivity as Connectivity
from raylab.spec.data.prepared import DEFAULT_DATE
from raylab.spec.evaluation import Evaluation as Evaluation
from raylab.spec.hyperparameters import Lora as Lora
from raylab.spec.hyperparameters import LoraOverrides as LoraOverrides
from raylab.spec.hyperparameters import Quantization as Quantization
from raylab.spec.hyperparameters import Training as Training
from raylab.spec.hyperparameters import TrainingOverrides as TrainingOverrides
from raylab.spec.merge_methods import METHODS
from raylab.spec.merges import MergeRequest, Scope, request_merge
from raylab.spec.published_norms import Printed
from raylab.spec.seeds import SeedList
from raylab.spec.sources import BaseModelRef, DataSet, FinishedModel, Frozen, Name
from raylab.spec.sources import Located as Located
from raylab.spec.spectra import BaseDirections, Spectra, base_directions_of
from raylab.spec.study_tokenizer import MergeTokenizer, requested_tokenizer
from raylab.spec.swept_names import SweptValue

Density = Annotated[float, Field(gt=0, le=1)]
DENSITIES = (0.1, 0.2, 0.5, 1.0)
TOLERANCE = 1e-5
Method = Literal["sft", "dpo"]
ViewName = Literal["delta", "merged", "dequantized"]
Subspaces = Literal["angles", "phi"]
PairLevel = Literal["module", "tensor"]
Device = Literal["auto", "cpu", "cuda"]
"""Where numbers are computed; auto: on a GPU, if there is one and the work is large."""
Chain = Literal["merge", "stack"]
Everything = Literal["all"]
TrackerName = Literal["mlflow", "wandb"]


def check_densities(values: Iterable[float]) -> tuple[float, ...]:
    """The same as a tuple. Raises StudyError where one is not in (0, 1]."""
    found = tuple(values)
    wrong = [value for value in found if not 0 < value <= 1]
    if wrong:
        raise StudyError("a density is out of range", found=wrong[0], expected="in (0, 1]")
    return found


class Recipe(Frozen):
    """One named training: method, data, parent and hyperparameters."""

    method: Method
    data: Name | None = None
    """SFT: the data set. DPO: one that has a rejected answer in every row."""
    chosen: Name | None = None
    """DPO: the data set of the chosen answers."""
    rejected: Name | None = None
    """DPO: the data set of the rejected answers, aligned by prompt or key."""
    parent: str | None = None
    """The recipe from whose trained model this one starts; none: the base model."""
    chain: Chain = "merge"
    """merge: the parent is merged into the base, then quantised. stack: the parent's adapter
    stays, frozen, beside the new one."""
    training: TrainingOverrides = TrainingOverrides()
    lora: LoraOverrides = LoraOverrides()
    sweep: dict[str, tuple[SweptValue, ...]] = Field(default_factory=dict)
    """Training parameters (or `lora.<parameter>`) and the values to try, one recipe each."""
    seeds: SeedList | None = None
    """Seeds of its own, in place of the study's; its parent must have each of them."""

    @model_validator(mode="after")
    def _data_of_method(self) -> Self:
        forms = {"sft": ["data"], "dpo": ["chosen rejected", "data"]}[self.method]
        if " ".join(self.data_sets) not in forms:
            fields = ", or ".join(f"`{form.replace(' ', '` and `')}`" for form in forms)
            raise ValueError(f"method {self.method} takes {fields}")
        if self.chosen is not None and self.chosen == self.rejected:
            raise ValueError("`chosen` and `rejected` are one data set; give it as `data`")
        return self

    @property
    def data_sets(self) -> dict[str, str]:
        """The data sets by the part that they play: data, or chosen and rejected."""
        parts = {"data": self.data, "chosen": self.chosen, "rejected": self.rejected}
        return {part: name for part, name in parts.items() if name is not None}


def _with_keywords() -> Any:
    """A base with fields that no class body can spell."""
    factor = Field(default=None, description="The factor of the merged task vector.")
    form = Field(default=None, description="A whole model (the default), or one adapter.")
    forms = Literal["model", "adapter"] | None
    fields: dict[str, Any] = {"lambda": (float | None, factor), "as": (forms, form)}
    return create_model("WithKeywords", __base__=Frozen, **fields)


class Merge(_with_keywords()):  # type: ignore[misc]
    """Models of the study combined into one, for each base model and seed that have them all.

    The defaults are those of `raylab merge`: weights 1, density 0.2, scope global, lambda 1.
    """

    method: Annotated[str, Field(json_schema_extra={"enum": [*METHODS]})]
    """A row of `raylab.spec.merges.METHODS`."""
    models: tuple[str, ...] = Field(min_length=1)
    """Recipes, variants of swept ones, or finished models."""
    weights: tuple[float, ...] | None = Field(default=None, min_length=1)
    """One for each model, in the same order."""
    density: Density | tuple[Density, ...] | None = None
    """The fraction kept of each task vector: one for all models, or one for each."""
    scope: Scope | None = None
    """The scope of the threshold: the whole task vector, or each tensor."""
    seed: int | None = Field(default=None, ge=0)
    """Of the entries that DARE drops."""
    parameters: dict[str, StrictBool | StrictInt | StrictFloat] = Field(default_factory=dict)
    """The method's own parameters, by name: `t`, `gamma` and the like."""
    sweep: dict[str, tuple[SweptValue, ...]] = Field(default_factory=dict)
    """`density`, `lambda`, `weight` (of the first model; the others share what is left of 1) or a
    parameter of the method, and the values to try, one merge each."""
    rank: int | None = Field(default=None, ge=1)
    """Of each tensor of an adapter; see `raylab.spec.adapter_output`."""
    energy: float | None = Field(default=None, gt=0, le=1)
    """The share of each tensor's energy that the adapter's rank keeps."""
    tokenizer: str | MergeTokenizer | None = None
    """That of the output, whose rows follow their tokens: `union`, `base`, a finished model, or a
    mapping as mergekit's `tokenizer` has it."""

    @model_validator(mode="after")
    def _one_density_each(self) -> Self:
        if isinstance(self.density, tuple) and len(self.density) != len(self.models):
            raise ValueError(f"give one density, or one for each of the {len(self.models)} models")
        return self

    def request(self, models: Sequence[str], base: str) -> MergeRequest:
        """The request to merge `models` over `base`. Raises InputError."""
        return request_merge(
            self.method,
            models,
            base=base,
            weights=self.weights,
            density=self.density,
            scope=self.scope,
            scaling=getattr(self, "lambda"),
            seed=self.seed,
            parameters=self.parameters,
            output=adapter_output(getattr(self, "as"), self.rank, self.energy),
            tokenizer=requested_tokenizer(
                self.tokenizer, dict(zip(self.models, models, strict=True)), base
            ),
        )


class Comparison(Frozen):
    """Pairs of models whose difference is reduced: exactly one of the four fields.

    Pairs are made within one base model, and for each seed, never across base models.
    """

    pair: tuple[str, str] | None = None
    """Two recipes (or merges, or models), compared at each seed."""
    base: tuple[str, ...] | Everything | None = None
    """Recipes (or merges, or models) against their base model."""
    seeds: tuple[str, ...] | Everything | None = None
    """Recipes (or merges), each seed against each other seed."""
    pairs: tuple[str, ...] | Everything | None = None
    """All pairs among these recipes (or merges, or models), at each seed."""

    @model_validator(mode="after")
    def _one_form(self) -> Self:
        given = [key for key in type(self).model_fields if getattr(self, key) is not None]
        if len(given) != 1:
            raise ValueError("give exactly one of `pair`, `base`, `seeds` and `pairs`")
        return self


class Resources(Frozen):
    """The resources of one trial on a cluster."""

    gpus: float = Field(default=1, gt=0)
    """GPUs per trial, where there are any."""
    cpus: int = Field(default=1, ge=1)
    """CPU cores per trial, which is also its number of threads."""
    checkpoint_seconds: float = Field(default=60, ge=0)
    """Seconds between two checkpoints of a training; 0: a checkpoint at every step."""
    timeout_seconds: float = Field(default=1800, gt=0)
    """How long a step may take, before its process is taken for stuck, and ended."""


class Study(Frozen):
    """Everything asked."""

    name: Name
    base_models: dict[Name, BaseModelRef] = Field(min_length=1)
    data: dict[Name, DataSet] = Field(min_length=1)
    held_out: float = Field(default=0.1, ge=0, lt=1)
    """The share of prompts kept from training, chosen by the prompt's text alone."""
    template_date: datetime.date = DEFAULT_DATE
    """The day that chat templates print which would print today's date."""
    recipes: dict[Name, Recipe] = Field(default_factory=dict)
    seeds: SeedList = Field(default=(42, 100), validate_default=True)
    """One training of every recipe for each: numbers that are the seed of everything,
    `{init: 42, order: 7}` among them where it is not one number, or lists that are crossed:
    `{init: [...], order: [...], dropout: [...]}`. What is not given follows `init`."""
    quantization: Quantization = Quantization()
    lora: Lora = Lora()
    training: Training = Training()
    comparisons: tuple[Comparison, ...] = ()
    densities: tuple[Density, ...] = DENSITIES
    tolerance: float = Field(default=TOLERANCE, ge=0, le=1)
    """An entry of a difference moved where its magnitude is above it."""
    pairs: PairLevel = "module"
    """The finest level of the tables pairs, kept_by, kept_of and phi."""
    subspaces: Subspaces = "angles"
    """phi: the table phi as well."""
    views: tuple[ViewName, ...] = Field(default=("delta",), min_length=1)
    """delta: what training did. merged: what is saved after merging into the base model's dtype.
    dequantized: the same on the base model as it was quantised for training."""
    connectivity: tuple[Connectivity, ...] = ()
    """Lines between two models on which the held-out loss is taken (table `connectivity`)."""
    spectra: Spectra = "delta"
    """delta: the singular values of every delta. base: how every delta lies to the base model's own
    singular vectors as well (table `intruders`); `{base: {top: 10, epsilon: 0.5}}` says how many
    count, and from which cosine on two directions are counterparts."""
    models: dict[Name, FinishedModel] = Field(default_factory=dict)
    """Finished models, which join comparisons and are never trained."""
    merges: dict[Name, Merge] = Field(default_factory=dict)
    """Merges of trials, which are measured, asked and compared as trials are."""
    evaluation: Evaluation = Evaluation()
    resources: Resources = Resources()
    reference: tuple[Printed, ...] = ()
    """Norms published elsewhere; the report shows them beside the measured ones."""
    tracking: tuple[TrackerName, ...] = ()
    """Where training is written down as well; addresses and tokens come from the environment."""

    @property
    def base_directions(self) -> BaseDirections | None:
        """What is asked of the base model's directions; None where nothing is."""
        return base_directions_of(self.spectra)

    def anchored(self, root: Path) -> Study:
        """The same study with every path made absolute from `root`."""
        return self.model_copy(
            update={
                key: {name: item.anchored(root) for name, item in getattr(self, key).items()}
                for key in ("base_models", "data", "models")
            }
        )
