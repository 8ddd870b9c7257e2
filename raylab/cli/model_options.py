"""Options that the verbs diff and merge share: models, and where the arithmetic runs."""

from __future__ import annotations

from typing import Annotated

import typer

from raylab.spec.study import Device

MODEL = "A checkpoint or adapter directory, a downloaded Hugging Face id, or OUT#trial."
ComputeDevice = Annotated[
    Device,
    typer.Option(help="Where to compute; auto: on a GPU, if there is one and the work is large."),
]
Dequantize = Annotated[
    bool,
    typer.Option(
        "--dequantize",
        help="Take copies in full precision of quantised checkpoints, made in scratch space.",
    ),
]
Threads = Annotated[int | None, typer.Option(min=1, help="Threads.", show_default="all cores")]
