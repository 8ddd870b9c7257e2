"""The verb doctor: what every node of a cluster sees."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from raylab.cli.options import Address, Json, console


def doctor(
    address: Address = None,
    storage: Annotated[
        str | None, typer.Option(help="A directory or URI that every node should reach.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Show what every node of a cluster sees, and what would make a study fail there."""
    from raylab.cluster.doctor.examine import examine
    from raylab.report.terminal.resources import print_examination

    found = examine(address, storage)
    if as_json:
        print(json.dumps(found.document, ensure_ascii=False, indent=1))
    else:
        print_examination(found.document, found.cells, console())
    if not found.healthy:
        raise typer.Exit(1)
