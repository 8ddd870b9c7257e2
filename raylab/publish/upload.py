"""Uploads a folder to a hub, with huggingface_hub.

Model: the repository is made if it does not exist, private unless `public` is set, and the folder
becomes one commit. The hub is HF_ENDPOINT, or Hugging Face's own.
Invariant: the token comes from the environment alone (HF_TOKEN), never from a file that a login
left, and no message contains it.
"""

from __future__ import annotations

import os
from pathlib import Path

from raylab.errors import InputError, RaylabError

TOKEN = "HF_TOKEN"


class HubError(RaylabError):
    """The hub refused, or could not be reached."""


def token_of_environment() -> str:
    """The hub's token. Raises InputError where the environment has none."""
    token = os.environ.get(TOKEN, "").strip()
    if not token:
        raise InputError(
            "there is no token for the hub",
            found=f"no {TOKEN} in the environment",
            expected="a token that may write",
            todo=f"set {TOKEN}, or write the folder alone with --dry-run",
        )
    return token


def check_repo(repo: str) -> None:
    """Raise InputError where `repo` is no name of a repository."""
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id

    try:
        validate_repo_id(repo)
    except HFValidationError as error:
        raise InputError("no repository has such a name", found=str(error)) from error
    if repo.count("/") != 1:
        raise InputError("the repository has no owner", found=repo, expected="OWNER/NAME")


def upload(folder: Path, repo: str, token: str, *, public: bool = False) -> str:
    """Make `folder` a commit of `repo`, and say where it is. Raises HubError.

    A repository that is there already stays as visible as it is.
    """
    from httpx2 import HTTPError  # huggingface_hub's own client
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

    api = HfApi(endpoint=os.environ.get("HF_ENDPOINT"), token=token)
    try:
        made = api.create_repo(repo, private=not public, exist_ok=True)
        api.upload_folder(repo_id=repo, folder_path=folder, commit_message="Published by raylab")
    except (HfHubHTTPError, HTTPError, OfflineModeIsEnabled, OSError, RuntimeError) as error:
        raise HubError(
            f"{repo} could not be published",
            found=str(error).replace(token, "***").strip(),
            expected="a hub that can be reached, and a token that may write there",
            todo=f"run the command again later; the folder to be uploaded is {folder}",
        ) from error
    return str(made)
