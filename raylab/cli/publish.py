"""The verb that puts a trained model on a hub: publish.

Model and invariant: as in `raylab.cli`. It needs no Ray.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from raylab.errors import InputError


def publish(
    model: Annotated[str, typer.Argument(metavar="OUT#NAME", help="A trial or merge of a study.")],
    repo: Annotated[str, typer.Argument(metavar="REPO", help="OWNER/NAME on the hub.")],
    merged: Annotated[
        bool, typer.Option("--merged", help="A whole model instead of an adapter.")
    ] = False,
    one_adapter: Annotated[
        bool,
        typer.Option("--one-adapter", help="A chain as a single adapter, which rounds otherwise."),
    ] = False,
    verify: Annotated[
        bool,
        typer.Option(help="Load what was written, and compare its answers with the recorded ones."),
    ] = True,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Write the folder, with local paths, and upload nothing."),
    ] = False,
    public: Annotated[
        bool, typer.Option("--public", help="For all to see; a new repository is private.")
    ] = False,
    out: Annotated[
        Path | None,
        typer.Option(help="A new directory for the folder.", show_default="published/<NAME>"),
    ] = None,
) -> None:
    """Put a trained model on a hub, with a card; the token is HF_TOKEN of the environment."""
    from raylab.publish.folder import write_folder
    from raylab.publish.upload import check_repo, token_of_environment, upload
    from raylab.store.references import find_finished_trial

    if merged and one_adapter:
        raise InputError("--merged and --one-adapter exclude each other", todo="give one of them")
    check_repo(repo)
    token = None if dry_run else token_of_environment()
    directory = out or Path("published") / repo.rpartition("/")[2]
    facts = write_folder(
        find_finished_trial(model),
        repo,
        directory,
        merged=merged,
        one_adapter=one_adapter,
        verified=verify,
        local=dry_run,
    )
    print(f"{facts.form}: {directory}")
    print(facts.verdict)
    if facts.difference is not None:
        print(f"largest difference from the chain's sum: {facts.difference:.2g}")
    if token:
        print(f"published: {upload(directory, repo, token, public=public)}")
