"""The description of a training's last checkpoint, latest.json, and where a training goes on.

Model: `raylab.train.resume` writes the files of a checkpoint to OUT/checkpoints/<trial>/<step>/,
and then latest.json, which names them. Everybody else reads latest.json alone.
Invariant: reading imports no torch. A checkpoint counts only for the trial and the micro-batch that
it was made with. Whether its bytes are sound is asked where it is used.
"""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, ValidationError

from raylab.store.filesystem import CHECKPOINTS, Store
from raylab.store.records import FileEntry

LATEST = "latest.json"


class Latest(BaseModel):
    """The content of latest.json. steps: of the whole training; 0 where it was not kept."""

    model_config = ConfigDict(frozen=True, defer_build=True)
    trial_id: str
    step: int
    steps: int = 0
    micro_batch: int
    files: dict[str, FileEntry]

    @property
    def text(self) -> str:
        """Where the next attempt begins: goes on from step 12 of 90."""
        return f"goes on from step {self.step}" + (f" of {self.steps}" if self.steps else "")


def checkpoint_key(folder: str, *parts: str) -> str:
    """The key of a file of the checkpoints of the trial in `folder`."""
    return "/".join((CHECKPOINTS, folder, *parts))


def read_latest(store: Store, folder: str) -> Latest | None:
    """The last checkpoint of a trial; None if there is none. Raises ValidationError, StoreError."""
    found = store.read_if_there(checkpoint_key(folder, LATEST))
    return None if found is None else Latest.model_validate_json(found)


def usable(store: Store, folder: str, trial_id: str, micro_batch: int) -> Latest | None:
    """The checkpoint from which this trial goes on at this micro-batch, or None."""
    try:
        found = read_latest(store, folder)
    except ValidationError:
        return None
    wanted = (trial_id, micro_batch)
    return found if found and (found.trial_id, found.micro_batch) == wanted else None
