"""Where a training goes on after its process died: the trainer's own checkpoint, in the store.

Model: every so many seconds the trainer saves adapter, optimizer, scheduler, random states and its
place in the data; `raylab.train.trajectory` adds the path so far. `Saver` copies these files to
OUT/checkpoints/<trial>/<step>/ and then names them, with size and SHA-256, in latest.json, which
takes the place of the one before.
Invariant: a checkpoint is used only where every byte is what was saved, for the same trial and
micro-batch; otherwise the training starts over. Pickles in it (optimizer, random states) are read
by torch with weights_only, after their SHA-256 matched.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError
from transformers import TrainerCallback
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

from raylab.errors import StoreError
from raylab.store.filesystem import CHECKPOINTS, Store
from raylab.store.records import FileEntry, measure, write_json
from raylab.train.trajectory import CHECKPOINTED

_LATEST = "latest.json"
_NEEDED = (
    "adapter_model.safetensors", "adapter_config.json", "optimizer.pt", "scheduler.pt",
    "rng_state.pth", "scaler.pt", "trainer_state.json", CHECKPOINTED,
)  # fmt: skip
_ASK_SECONDS = 1.0


class Saved(BaseModel):
    """What latest.json holds."""

    model_config = ConfigDict(frozen=True)
    trial_id: str
    step: int
    micro_batch: int
    files: dict[str, FileEntry]


class Checkpoints:
    """The kept checkpoints of one trial at one micro-batch."""

    def __init__(self, store: Store, folder: str, trial_id: str, micro_batch: int) -> None:
        """Address them; nothing is read yet."""
        self._store, self._key = store, f"{CHECKPOINTS}/{folder}"
        self._trial_id, self.micro_batch = trial_id, micro_batch

    def keep(self, directory: Path, step: int) -> None:
        """Take in the checkpoint that the trainer saved at `directory`. Raises StoreError."""
        files = {}
        for name in _NEEDED:
            if (directory / name).exists():
                data = (directory / name).read_bytes()
                self._store.write(f"{self._key}/{step}/{name}", data)
                files[name] = measure(data)
        saved = Saved(trial_id=self._trial_id, step=step, micro_batch=self.micro_batch, files=files)
        write_json(self._store, f"{self._key}/{_LATEST}", saved.model_dump())
        for old in self._store.names(self._key):
            if old not in (_LATEST, str(step)):
                self._store.delete(f"{self._key}/{old}")

    def latest(self) -> Saved | None:
        """What the last checkpoint says of itself; None where there is none for this training."""
        if not self._store.exists(f"{self._key}/{_LATEST}"):
            return None
        try:
            found = Saved.model_validate_json(self._store.read(f"{self._key}/{_LATEST}"))
        except ValidationError as error:
            print(
                f"the checkpoint's {_LATEST} is damaged, and not used: {error.errors()[0]['msg']}"
            )
            return None
        wanted = (self._trial_id, self.micro_batch)
        return found if (found.trial_id, found.micro_batch) == wanted else None

    def fetch(self, directory: Path) -> Path | None:
        """The last checkpoint as a directory below `directory`; None where none can be used."""
        saved = self.latest()
        if saved is None:
            return None
        target = directory / f"{PREFIX_CHECKPOINT_DIR}-{saved.step}"
        target.mkdir(parents=True)
        for name, entry in saved.files.items():
            key = f"{self._key}/{saved.step}/{name}"
            data = self._store.read(key) if self._store.exists(key) else b""
            if name not in _NEEDED or measure(data) != entry:
                print(f"the checkpoint of step {saved.step} is damaged, and not used: {name}")
                return None
            (target / name).write_bytes(data)
        print(f"goes on from step {saved.step}")
        return target

    def forget(self) -> None:
        """Delete them all."""
        self._store.delete(self._key)


class Saver(TrainerCallback):
    """Lets the trainer save when it is time, or when it is to stop, and keeps what it saved."""

    def __init__(
        self,
        checkpoints: Checkpoints,
        seconds: float,
        is_to_stop: Callable[[], bool],
        tell: Callable[[int], None],
    ) -> None:
        """Save every `seconds`; `tell` hears the step of each checkpoint that is kept."""
        self._checkpoints, self._seconds = checkpoints, seconds
        self._is_to_stop, self._tell = is_to_stop, tell
        self._saved = self._asked = time.monotonic()
        self.stopped = False

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Start the clock."""
        self._saved = self._asked = time.monotonic()

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Ask for a checkpoint where one is due; the last step needs none."""
        now = time.monotonic()
        if now - self._asked >= _ASK_SECONDS:
            self._asked, self.stopped = now, self._is_to_stop()
        if state.global_step < state.max_steps:
            control.should_save |= self.stopped or now - self._saved >= self._seconds
            control.should_training_stop |= self.stopped

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Keep what was saved, and free its place on this node."""
        step = state.global_step
        directory = Path(args.output_dir) / f"{PREFIX_CHECKPOINT_DIR}-{step}"
        self._saved = time.monotonic()
        try:
            self._checkpoints.keep(directory, step)
        except StoreError as error:
            # A disk that is full, or a store that is away, may be back at the next one.
            print(f"the checkpoint of step {step} was not kept: {error}")
        else:
            self._tell(step)
        finally:
            shutil.rmtree(directory)
