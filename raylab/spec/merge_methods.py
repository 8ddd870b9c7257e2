"""The table of merge methods, one row each, which cites its paper.

Model: with the task vectors d_i = model_i - base, a row that combines entries says which entries of
d_i stay (all, the largest, the largest but for outliers, or a random share, scaled up for what was
dropped), whether the models elect a sign for each entry, and whether their weighted sum is divided
by the weights that went into it:

    merged = base + lambda * sum(w_i * kept(d_i)) [ / sum(w_i) ]

`raylab.merge.steps` defines each step for one entry. A row that combines tensors has a rule in
`raylab.merge.tensor_rules`: what becomes of an entry depends on the tensor that it lies in.
A method works on task vectors, which need a base, on the models' values, which need none, or on
either: on task vectors where there is a base.
Invariant: every number that a method takes beside weights, densities and lambda is in its
`parameters`, with the bounds within which its formula holds.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from raylab.errors import InputError
from raylab.number_format import either
from raylab.spec.proposals import close_names

Parameter = float | int | bool
"""A value of a method's own parameter."""


@dataclass(frozen=True)
class ParameterRow:
    """One parameter of a method. default None: it has to be given.

    kind: number, whole (a whole number) or flag; low and high: the bounds of a number, both
    allowed.
    """

    default: Parameter | None
    kind: Literal["number", "whole", "flag"] = "number"
    low: float = -math.inf
    high: float = math.inf

    @property
    def expected(self) -> str:
        """The values that it takes, in words."""
        if self.kind == "flag":
            return "true or false"
        noun = "a number" if self.kind == "number" else "a whole number"
        return f"{noun} of {self.low:g} to {self.high:g}"

    def allows(self, value: object) -> bool:
        """Whether it takes `value`."""
        if isinstance(value, bool) or self.kind == "flag":
            return isinstance(value, bool) and self.kind == "flag"
        kinds = (int,) if self.kind == "whole" else (int, float)
        return isinstance(value, kinds) and self.low <= value <= self.high


@dataclass(frozen=True)
class MergeMethod:
    """One row of the table. `normalizes` is the default; a request may say otherwise.

    fewest, most: how many models it combines beside a base, most None for any number. weighs:
    whether models have weights.
    """

    title: str
    paper: str
    keeps: Literal["all", "largest", "middle", "random"] = "all"
    elects: bool = False
    normalizes: bool = False
    of: Literal["deltas", "values", "either"] = "deltas"
    combines: Literal["entries", "tensors"] = "entries"
    fewest: int = 1
    most: int | None = None
    weighs: bool = True
    parameters: Mapping[str, ParameterRow] = field(default_factory=dict)

    @property
    def trims(self) -> bool:
        """Whether thresholds say which entries stay."""
        return self.keeps in ("largest", "middle")


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
        parameters={"gamma": ParameterRow(0.01, low=0.0, high=1.0)},
    ),
    "breadcrumbs_ties": MergeMethod(
        title="Model Breadcrumbs, then TIES' election and disjoint mean",
        paper="Davari and Belilovsky 2023, arXiv:2312.06795; Yadav et al. 2023, arXiv:2306.01708",
        keeps="middle",
        elects=True,
        normalizes=True,
        parameters={"gamma": ParameterRow(0.01, low=0.0, high=1.0)},
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
            "nuslerp_row_wise": ParameterRow(False, "flag"),
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
        paper="Reinforced Agent Merging 2026, arXiv:2601.13572",
        combines="tensors",
        weighs=False,
        parameters={"epsilon": ParameterRow(1e-5, low=0.0, high=1e30)},
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
    ),
}


def checked_parameters(method: str, given: Mapping[str, Parameter]) -> dict[str, Parameter]:
    """A value for every setting of `method`, in the order of its row. Raises InputError where one
    is unknown, missing or out of its bounds."""
    rows = METHODS[method].parameters
    for name in given:
        if name not in rows:
            close = close_names(name, rows)
            raise InputError(
                f"{method} has no parameter {name}",
                found=f"{name}: {given[name]}",
                expected=", ".join(rows) or f"{method} has no parameters of its own",
                todo=f"did you mean {either(close)}?" if close else "",
            )
    found: dict[str, Parameter] = {}
    for name, row in rows.items():
        value = given.get(name, row.default)
        if value is None:
            raise InputError(f"{method} needs {name}", found="none", expected=row.expected)
        if not row.allows(value):
            raise InputError(f"{method}'s {name} is wrong", found=value, expected=row.expected)
        found[name] = float(value) if row.kind == "number" else value
    return found


def parsed_parameters(texts: list[str] | None) -> dict[str, Parameter] | None:
    """Settings as a command line has them, NAME=VALUE each. Raises InputError."""
    found: dict[str, Parameter] = {}
    for text in texts or ():
        name, equals, value = text.partition("=")
        words = {"true": True, "false": False}
        if not equals or name in found:
            raise InputError(
                "a parameter is a name and a value",
                found=text,
                expected="NAME=VALUE, each name once",
            )
        try:
            number = float(value)
        except ValueError:
            number = math.nan
        if value not in words and not math.isfinite(number):
            raise InputError(
                f"the parameter {name} is no number",
                found=value,
                expected="a number, true or false",
            )
        is_whole = value.lstrip("-").isdigit()
        found[name] = words[value] if value in words else int(value) if is_whole else number
    return found or None
