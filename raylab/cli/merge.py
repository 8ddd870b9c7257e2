"""The verb merge: models into one checkpoint, or adapters into one, without a study.

Model and invariant: as in `raylab.cli`. The arguments make a request, which is then
carried out, shown and written as a page. Ray is not needed.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from raylab.cli.model_options import MODEL, ComputeDevice, Dequantize, Threads
from raylab.cli.options import Json, Lang, Language, say
from raylab.errors import InputError
from raylab.imports import loading
from raylab.spec.merge_parameters import parsed_parameters
from raylab.spec.merges import check_method
from raylab.spec.output_tokenizer import asked_tokenizer
from raylab.store.filesystem import Store

if TYPE_CHECKING:
    from raylab.spec.merges import MergeRequest

_Out = Annotated[Path, typer.Option(help="A new directory for the merged model.")]
_Method = Annotated[
    str | None,
    typer.Argument(
        metavar="METHOD",
        help="A merge method, such as ties, linear or slerp. docs/merging.md lists all.",
        # A wrong method is said before an option that is missing.
        is_eager=True,
        callback=lambda method: method and check_method(method),
    ),
]
_Base = Annotated[
    str | None, typer.Option(help="The base model. Methods that work on values need none.")
]
_Models = Annotated[
    list[str] | None, typer.Option(help=MODEL[:-1] + ", or BASE+ADAPTER. Repeatable.")
]
_Weights = Annotated[
    list[float] | None,
    typer.Option(
        help="The weight of a model. Repeatable, in the order of --model.", show_default="1"
    ),
]
_Density = Annotated[
    float | None,
    typer.Option(help="The share of a model's entries that is kept.", show_default="0.2"),
]
_Scope = Annotated[
    str | None, typer.Option(help="Trim over the whole model (global) or each tensor (tensor).")
]
_Lambda = Annotated[
    float | None,
    typer.Option("--lambda", help="Multiplies the merged task vector.", show_default="1"),
]
_Seed = Annotated[
    int | None, typer.Option(help="The seed of random draws (DARE, DELLA).", show_default="0")
]
_Config = Annotated[
    Path | None, typer.Option(help="A YAML file of mergekit, in place of METHOD and --model.")
]
_MostGb = Annotated[
    float | None,
    typer.Option(
        min=0.001, help="The largest size of one file of weights, in GB.", show_default="4"
    ),
]
_Set = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="NAME=VALUE", help="A parameter of the method, such as t=0.5. Repeatable."
    ),
]
_As = Annotated[
    str | None,
    typer.Option(
        "--as",
        help="model: a checkpoint. adapter: adapters merged into one adapter.",
        show_default="model",
    ),
]
_Rank = Annotated[
    int | None,
    typer.Option(
        help="The rank of the adapter.", show_default="the sum of the ranks of the models"
    ),
]
_Energy = Annotated[
    float | None,
    typer.Option(
        help="The share of each tensor's squared singular values that the adapter's rank keeps."
    ),
]
_Tokenizer = Annotated[
    str | None,
    typer.Option(
        help="The output's tokenizer: union (the tokens of all models), base, or a model, whose"
        " tokenizer is taken. Rows of embedding and head follow their tokens.",
        show_default="one vocabulary for all models",
    ),
]


def merge(
    out: _Out,
    method: _Method = None,
    base: _Base = None,
    model: _Models = None,
    weight: _Weights = None,
    density: _Density = None,
    scope: _Scope = None,
    scaling: _Lambda = None,
    seed: _Seed = None,
    parameters: _Set = None,
    config: _Config = None,
    form: _As = None,
    rank: _Rank = None,
    energy: _Energy = None,
    max_shard_gb: _MostGb = None,
    threads: Threads = None,
    device: ComputeDevice = "auto",
    dequantize: Dequantize = False,
    lang: Lang = Language.en,
    tokenizer: _Tokenizer = None,
    as_json: Json = False,
) -> None:
    """Merge models into one checkpoint, or adapters into one: TIES, DARE, SLERP and others."""
    from raylab.spec.adapter_output import adapter_output
    from raylab.spec.mergekit import requested

    output = adapter_output(form, rank, energy)
    if output and max_shard_gb is not None:
        raise InputError(
            "an adapter is written in one file",
            found=f"--max-shard-gb {max_shard_gb:g} beside --as adapter",
            expected="one of them",
        )
    request = requested(
        config,
        method,
        model,
        base=base,
        weights=weight,
        density=density,
        scope=scope,
        scaling=scaling,
        seed=seed,
        parameters=parsed_parameters(parameters),
        tokenizer=asked_tokenizer(tokenizer),
    )
    record = _merged(
        replace(request, output=output),
        out,
        most_bytes=round((max_shard_gb or 4.0) * 1e9),
        threads=threads,
        device=device,
        dequantize=dequantize,
        as_json=as_json,
    )
    say(f"page: {_write_page(request, record, out, lang.value)}")


def _merged(request: MergeRequest, out: Path, *, as_json: bool, **how: Any) -> Mapping[str, Any]:
    """The record of the merge, which is carried out and shown; `how`: see `merge_named`."""
    with loading():
        from raylab.merge.merge import merge_named
        from raylab.merge.record import summary_lines

    started = time.monotonic()
    record = merge_named(request, out, **how)
    if as_json:
        print(json.dumps(record, ensure_ascii=False, indent=1, allow_nan=False))
    else:
        print("\n".join(summary_lines(record)))
        print(f"{time.monotonic() - started:.1f} s: {out}")
    return record


def _write_page(request: MergeRequest, record: Mapping[str, Any], out: Path, language: str) -> str:
    from raylab.report.page.merge_page import merge_page
    from raylab.report.page.render import write_page
    from raylab.report.words import translator

    page = merge_page(translator(language), out.resolve().name, request, record)
    return write_page(page, Store(str(out)), "merge")
