"""What each seed of a training decides, and that it decides nothing else."""

from __future__ import annotations

from functools import cache

import pytest
import torch
from transformers import TrainerCallback

from raylab.spec.seeds import Seeds
from tests.train.test_resume import EVERY_STEP, stopped_at

STEPS = 4
SEEDS = "seeds: [42]->seeds: [{init: 42, order: 7, dropout: 9}]"


class Start(TrainerCallback):
    """Keeps the random state that the first step starts from; stops after STEPS."""

    def on_step_begin(self, args, state, control, **kwargs):
        if state.global_step == 0:
            self.noise = torch.get_rng_state().numpy().tobytes()

    def on_step_end(self, args, state, control, **kwargs):
        control.should_training_stop |= state.global_step >= STEPS


class Seen:
    """The start of the adapter, the rows of each step, and the random state of a training."""

    def __init__(self, trainer):
        adapted = ((n, p) for n, p in trainer.model.named_parameters() if p.requires_grad)
        self.start = {name: p.detach().numpy().tobytes() for name, p in adapted}
        self.rows, step = [], trainer.training_step

        def training_step(model, inputs, *args):
            self.rows.append(inputs["input_ids"].tolist())
            return step(model, inputs, *args)

        trainer.training_step, watch = training_step, Start()
        trainer.add_callback(watch)
        trainer.train()
        self.noise = watch.noise


@pytest.fixture(scope="module", params=["sft-d1", "dpo-d0"])
def seen(request, trained, tmp_path_factory):
    """Trains a few steps of a recipe, once for each seeds."""

    @cache
    def found(*seeds: int) -> Seen:
        folder = tmp_path_factory.mktemp("trainer")
        return Seen(trained.trainer(request.param, folder, seed=Seeds.of(*seeds)))

    return found


def test_seed_of_the_order_changes_the_rows_of_steps_alone(seen):
    one, other = seen(42), seen(42, 7, 42)
    assert len(one.rows) == STEPS
    assert one.rows != other.rows
    assert one.start == other.start
    assert one.noise == other.noise


def test_seed_of_a_changes_the_start_of_a_alone(seen):
    one, other = seen(42), seen(7, 42, 42)
    started = [name for name in one.start if one.start[name] != other.start[name]]
    assert started == [name for name in one.start if "lora_A" in name]
    assert one.rows == other.rows
    assert one.noise == other.noise


def test_seed_of_dropout_changes_the_noise_of_steps_alone(seen):
    one, other = seen(42), seen(42, 42, 7)
    assert one.noise != other.noise
    assert one.start == other.start
    assert one.rows == other.rows


def test_seed_of_everything_is_the_three_together(seen):
    one, other, mixed = seen(42), seen(7), seen(42, 7, 7)
    assert (mixed.rows, mixed.noise) == (other.rows, other.noise)
    assert mixed.start == one.start
    assert other.start != one.start


def test_training_that_was_stopped_keeps_its_three_seeds(bench):
    whole, cut = bench("whole", seeds=SEEDS), bench("cut", seeds=SEEDS, all=EVERY_STEP)
    whole.run("sft-d1", seed="42o7d9")
    stopped_at(cut, "sft-d1", 3, seed="42o7d9")
    cut.run("sft-d1", seed="42o7d9")
    name = {"recipe": "sft-d1", "seed": "42o7d9"}
    assert cut.adapter_bytes(**name) == whole.adapter_bytes(**name)
    assert cut.folder(**name).name.startswith("demo.sft-d1.s42o7d9-")
