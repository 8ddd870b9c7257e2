"""Checkpoints of a training in the store, from which it resumes after its process died.

Model: every so many seconds the trainer saves adapter, optimizer, scheduler, random states and its
position in the data; `raylab.train.trajectory` adds the records so far. `CheckpointSaver` copies
these files to OUT/checkpoints/<trial>/<step>/ and then names them, with size and SHA-256, in
latest.json (`raylab.store.checkpoints`), which replaces the one before.
Invariant: a checkpoint is used only where every byte is the one that was saved, for the same trial
and micro-batch; otherwise the training starts again. torch reads pickles in it (optimizer, random
states) with weights_only, after their SHA-256 matched.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from transformers import TrainerCallback
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

from raylab.errors import StoreError
from raylab.store.checkpoints import LATEST, Latest, checkpoint_key, read_latest
from raylab.store.filesystem import Store
from raylab.store.records import measure, write_json
from raylab.train.attempts import Stopped
from raylab.train.trajectory import CHECKPOINTED

_FILES = (
    "adapter_model.safetensors", "adapter_config.json", "optimizer.pt", "scheduler.pt",
    "rng_state.pth", "scaler.pt", "trainer_state.json", CHECKPOINTED,
)  # fmt: skip
_STOP_CHECK_SECONDS = 1.0
"""Between two checks whether the training is to stop."""


class Checkpoints:
    """The checkpoints in the store of one trial at one micro-batch."""

    def __init__(self, store: Store, folder: str, trial_id: str, micro_batch: int) -> None:
        """Nothing is read yet."""
        self._store, self._folder, self._key = store, folder, checkpoint_key(folder)
        self._trial_id, self.micro_batch = trial_id, micro_batch

    def upload(self, directory: Path, step: int, steps: int) -> None:
        """Store the checkpoint that the trainer saved at `directory` after `step` of `steps`.

        Raises StoreError.
        """
        files = {}
        for name in _FILES:
            if (directory / name).exists():
                data = (directory / name).read_bytes()
                self._store.write(f"{self._key}/{step}/{name}", data)
                files[name] = measure(data)
        saved = Latest(
            trial_id=self._trial_id,
            step=step,
            steps=steps,
            micro_batch=self.micro_batch,
            files=files,
        )
        write_json(self._store, f"{self._key}/{LATEST}", saved.model_dump())
        for old in self._store.names(self._key):
            if old not in (LATEST, str(step)):
                self._store.delete(f"{self._key}/{old}")

    def latest(self) -> Latest | None:
        """The description of the last checkpoint; None where this training has none."""
        try:
            found = read_latest(self._store, self._folder)
        except ValidationError as error:
            print(f"the checkpoint's {LATEST} is damaged, and not used: {error.errors()[0]['msg']}")
            return None
        wanted = (self._trial_id, self.micro_batch)
        return found if found and (found.trial_id, found.micro_batch) == wanted else None

    def fetch(self, directory: Path) -> Path | None:
        """A local copy of the last checkpoint below `directory`; None where none can be used."""
        saved = self.latest()
        if saved is None:
            return None
        target = directory / f"{PREFIX_CHECKPOINT_DIR}-{saved.step}"
        target.mkdir(parents=True)
        for name, entry in saved.files.items():
            key = f"{self._key}/{saved.step}/{name}"
            data = self._store.read(key) if self._store.exists(key) else b""
            if name not in _FILES or measure(data) != entry:
                print(f"the checkpoint of step {saved.step} is damaged, and not used: {name}")
                return None
            (target / name).write_bytes(data)
        print(saved.text)
        return target

    def delete(self) -> None:
        """Delete all checkpoints of the trial."""
        self._store.delete(self._key)


class CheckpointSaver(TrainerCallback):
    """Makes the trainer save when it is time, or when it is to stop, and stores the checkpoint."""

    def __init__(
        self,
        checkpoints: Checkpoints,
        seconds: float,
        is_to_stop: Callable[[], bool],
        on_saved: Callable[[int], None],
    ) -> None:
        """Save every `seconds`; `on_saved` is called with the step of each stored checkpoint."""
        self._checkpoints, self._seconds = checkpoints, seconds
        self._is_to_stop, self._on_saved = is_to_stop, on_saved
        self._saved = self._checked = time.monotonic()
        self.stopped = False

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Start the clock. Raises Stopped: before the first step there is nothing to save."""
        self._saved = self._checked = time.monotonic()
        if self._is_to_stop():
            raise Stopped

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Request a checkpoint where one is due; the last step needs none."""
        now = time.monotonic()
        if state.global_step >= state.max_steps:
            return
        if now - self._checked >= _STOP_CHECK_SECONDS:
            self._checked, self.stopped = now, self._is_to_stop()
        control.should_save |= self.stopped or now - self._saved >= self._seconds
        control.should_training_stop |= self.stopped

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Store the checkpoint, and delete its files on this node."""
        step = state.global_step
        directory = Path(args.output_dir) / f"{PREFIX_CHECKPOINT_DIR}-{step}"
        self._saved = time.monotonic()
        try:
            self._checkpoints.upload(directory, step, state.max_steps)
        except StoreError as error:
            # A full disk, or a store that does not answer, may be back at the next checkpoint.
            print(f"the checkpoint of step {step} was not stored: {error}")
        else:
            self._on_saved(step)
        finally:
            shutil.rmtree(directory)
