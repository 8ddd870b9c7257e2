"""The table of merge methods, one row each, which cites its paper.

Model: with the task vectors d_i = model_i - base, a row that combines entries says which entries of
d_i stay (all, the largest, the largest but for outliers, or a random share, evenly or by rank, that
is scaled up for what was dropped), whether the models elect a sign for each entry, and whether
their weighted sum is divided by the weights that went into it:

    merged = base + lambda * sum(w_i * kept(d_i)) [ / sum(w_i) ]

`raylab.merge.steps` defines each step for one entry. A row that combines tensors has a rule in
`raylab.merge.whole_tensors`: what becomes of an entry depends on the tensor that it lies in. A row
that combines matrices has a rule in `raylab.merge.matrices`, which looks at singular vectors.
A method works on task vectors, which need a base, on the models' values, which need none, or on
either: on task vectors where there is a base.
Invariant: every number that a method takes beside weights, densities and lambda is in its
`parameters`, with the bounds within which its formula holds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from raylab.spec.merge_parameters import ParameterRow


@dataclass(frozen=True)
class MergeMethod:
    """One row of the table. `normalizes` is the default; a request may say otherwise.

    fewest, most: how many models it combines beside a base, most None for any number. inputs:
    whether it takes any models, or adapters of factors alone. weighs: whether models have weights.
    """

    title: str
    paper: str
    keeps: Literal["all", "largest", "middle", "random", "by_rank"] = "all"
    elects: bool = False
    normalizes: bool = False
    of: Literal["deltas", "values", "either"] = "deltas"
    combines: Literal["entries", "tensors", "matrices"] = "entries"
    inputs: Literal["models", "factors"] = "models"
    fewest: int = 1
    most: int | None = None
    weighs: bool = True
    parameters: Mapping[str, ParameterRow] = field(default_factory=dict)

    @property
    def trims(self) -> bool:
        """Whether thresholds of the task vectors say which entries stay."""
        return self.keeps in ("largest", "middle") and self.combines == "entries"

    @property
    def scales(self) -> bool:
        """Whether lambda multiplies the merged task vector."""
        return self.of == "deltas" and self.combines != "tensors"

    @property
    def own_settings(self) -> list[str]:
        """What each model of a merge may have of its own: its weight, density, and parameters."""
        parameters = [name for name, row in self.parameters.items() if row.by_model]
        return ["weight"] * self.weighs + ["density"] * (self.keeps != "all") + parameters

    @property
    def draws(self) -> bool:
        """Whether chance says which entries stay."""
        return self.keeps in ("random", "by_rank")


METHODS: dict[str, MergeMethod] = {
    "ties": MergeMethod(
        title="TIES-Merging",
        paper="Yadav et al. 2023, arXiv:2306.01708",
        keeps="largest",
        elects=True,
        normalizes=True,
    ),
    "task_arithmetic": MergeMethod(
        title="Task arithmetic",
        paper="Ilharco et al. 2022, arXiv:2212.04089",
    ),
    "dare_ties": MergeMethod(
        title="DARE (drop and rescale), then TIES' election and disjoint mean",
        paper="Yu et al. 2023, arXiv:2311.03099; Yadav et al. 2023, arXiv:2306.01708",
        keeps="random",
        elects=True,
        normalizes=True,
    ),
    "dare_linear": MergeMethod(
        title="DARE (drop and rescale), then task arithmetic",
        paper="Yu et al. 2023, arXiv:2311.03099; Ilharco et al. 2022, arXiv:2212.04089",
        keeps="random",
    ),
    "della": MergeMethod(
        title="DELLA (drop by magnitude and rescale), then TIES' election and disjoint mean",
        paper="Deep et al. 2024, arXiv:2406.11617",
        keeps="by_rank",
        elects=True,
        normalizes=True,
        parameters={"epsilon": ParameterRow(0.15, low=0.0, high=0.5, by_model=True)},
    ),
    "della_linear": MergeMethod(
        title="DELLA (drop by magnitude and rescale), then task arithmetic",
        paper="Deep et al. 2024, arXiv:2406.11617; Ilharco et al. 2022, arXiv:2212.04089",
        keeps="by_rank",
        parameters={"epsilon": ParameterRow(0.15, low=0.0, high=0.5, by_model=True)},
    ),
    "linear": MergeMethod(
        title="Weighted mean of weights (model soup)",
        paper="Wortsman et al. 2022, arXiv:2203.05482",
        normalizes=True,
        of="values",
    ),
    "breadcrumbs": MergeMethod(
        title="Model Breadcrumbs",
        paper="Davari and Belilovsky 2023, arXiv:2312.06795",
        keeps="middle",
        parameters={"gamma": ParameterRow(0.01, low=0.0, high=1.0, by_model=True)},
    ),
    "breadcrumbs_ties": MergeMethod(
        title="Model Breadcrumbs, then TIES' election and disjoint mean",
        paper="Davari and Belilovsky 2023, arXiv:2312.06795; Yadav et al. 2023, arXiv:2306.01708",
        keeps="middle",
        elects=True,
        normalizes=True,
        parameters={"gamma": ParameterRow(0.01, low=0.0, high=1.0, by_model=True)},
    ),
    "slerp": MergeMethod(
        title="Spherical linear interpolation of two models",
        paper="Shoemake 1985, doi:10.1145/325334.325242",
        of="values",
        combines="tensors",
        fewest=2,
        most=2,
        weighs=False,
        parameters={"t": ParameterRow(None, low=0.0, high=1.0)},
    ),
    "nuslerp": MergeMethod(
        title="Spherical linear interpolation of two models, or of their task vectors",
        paper="Shoemake 1985, doi:10.1145/325334.325242; mergekit's nuslerp has no paper",
        of="either",
        combines="tensors",
        fewest=2,
        most=2,
        parameters={
            "nuslerp_flatten": ParameterRow(True, "flag"),
            "nuslerp_row_wise": ParameterRow(False, "flag", needs=("nuslerp_flatten", False)),
        },
    ),
    "multislerp": MergeMethod(
        title="Mean direction of models, or of their task vectors, at their mean norm",
        paper="no paper: Goddard 2025, goddard.blog/posts/multislerp-wow-what-a-cool-idea",
        of="either",
        combines="tensors",
        parameters={"normalize_weights": ParameterRow(True, "flag")},
    ),
    "karcher": MergeMethod(
        title="Karcher mean of the models' directions, at their mean norm",
        paper="Karcher 1977, doi:10.1002/cpa.3160300502",
        of="values",
        combines="tensors",
        parameters={
            "max_iter": ParameterRow(10, "whole", 1, 10_000),
            "tol": ParameterRow(1e-5, low=1e-7, high=0.1),
        },
    ),
    "model_stock": MergeMethod(
        title="Model Stock",
        paper="Jang et al. 2024, arXiv:2403.19522",
        combines="tensors",
        fewest=2,
        weighs=False,
        parameters={"filter_wise": ParameterRow(False, "flag")},
    ),
    "nearswap": MergeMethod(
        title="NearSwap: the model where it is near to the base, else a step towards it",
        paper="no paper: alchemonaut 2024, huggingface.co/alchemonaut/QuartetAnemoi-70B-t0.0001",
        combines="tensors",
        most=1,
        weighs=False,
        parameters={"t": ParameterRow(None, low=0.0, high=1e30)},
    ),
    "ram": MergeMethod(
        title="Reinforced Agent Merging: the mean of the models that moved an entry",
        paper="Yuan et al. 2026, arXiv:2601.13572",
        combines="tensors",
        weighs=False,
        parameters={"epsilon": ParameterRow(1e-5, low=0.0, high=1e30)},
    ),
    "ramplus_tl": MergeMethod(
        title="Reinforced Agent Merging, raised where one model alone moved an entry, by tensor",
        paper="Yuan et al. 2026, arXiv:2601.13572 (RAM+; by tensor: mergekit)",
        combines="tensors",
        weighs=False,
        parameters={
            "r": ParameterRow(0.1, low=0.0, high=1e30),
            "alpha": ParameterRow(0.2, low=0.0, high=1e30),
            "epsilon": ParameterRow(1e-5, low=0.0, high=1e30),
        },
    ),
    "arcee_fusion": MergeMethod(
        title="Arcee Fusion: the model's most important entries, the base's elsewhere",
        paper="no paper: mergekit 2025, github.com/arcee-ai/mergekit",
        combines="tensors",
        most=1,
        weighs=False,
    ),
    "sce": MergeMethod(
        title="SCE: select by variance, calculate weights by squares, erase minority signs",
        paper="Wan et al. 2024, arXiv:2408.07990",
        combines="tensors",
        fewest=2,
        weighs=False,
        parameters={"select_topk": ParameterRow(1.0, low=0.0, high=1.0)},
    ),
    "passthrough": MergeMethod(
        title="One model, as it is",
        paper="no paper: mergekit 2023, github.com/arcee-ai/mergekit",
        of="values",
        combines="tensors",
        most=1,
        weighs=False,
        parameters={"scale": ParameterRow(1.0, by_model=True)},
    ),
    "tsv": MergeMethod(
        title="TSV-Merge: task singular vectors, made orthonormal over all models",
        paper="Gargiulo et al. 2024, arXiv:2412.00081",
        combines="matrices",
        parameters={"k": ParameterRow(0, "whole", 0, 1_000_000)},
    ),
    "iso_c": MergeMethod(
        title="Iso-C: the sum's singular vectors, with their mean singular value",
        paper="Marczak et al. 2025, arXiv:2502.04959",
        combines="matrices",
    ),
    "iso_cts": MergeMethod(
        title="Iso-CTS: common and task-specific singular vectors, with one mean singular value",
        paper="Marczak et al. 2025, arXiv:2502.04959",
        combines="matrices",
        parameters={"common": ParameterRow(0.8, low=0.0, high=1.0)},
    ),
    "knots_ties": MergeMethod(
        title="KnOTS: TIES over the models' parts of one singular value decomposition",
        paper="Stoica et al. 2024, arXiv:2410.19735; Yadav et al. 2023, arXiv:2306.01708",
        keeps="largest",
        elects=True,
        normalizes=True,
        combines="matrices",
        inputs="factors",
    ),
    "core_ties": MergeMethod(
        title="Core Space, then TIES",
        paper="Panariello et al. 2025, arXiv:2509.17786; Yadav et al. 2023, arXiv:2306.01708",
        keeps="largest",
        elects=True,
        normalizes=True,
        combines="matrices",
        inputs="factors",
    ),
    "core_tsv": MergeMethod(
        title="Core Space, then TSV-Merge",
        paper="Panariello et al. 2025, arXiv:2509.17786; Gargiulo et al. 2024, arXiv:2412.00081",
        combines="matrices",
        inputs="factors",
        parameters={"k": ParameterRow(0, "whole", 0, 1_000_000)},
    ),
    "core_iso_c": MergeMethod(
        title="Core Space, then Iso-C",
        paper="Panariello et al. 2025, arXiv:2509.17786; Marczak et al. 2025, arXiv:2502.04959",
        combines="matrices",
        inputs="factors",
    ),
}


def is_merge(trial: Mapping[str, Any]) -> bool:
    """Whether a row of the trials table is a merge."""
    return trial["method"] in METHODS
