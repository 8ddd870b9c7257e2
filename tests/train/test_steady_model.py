"""Walks of a model that a training asks for at every step, against torch's own."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from raylab.train.steady_model import steady


class Counted(nn.Linear):
    """A layer that counts how often it is put into a mode."""

    count = 0

    def train(self, mode=True):
        self.count += 1
        return super().train(mode)


@pytest.fixture
def model():
    return nn.Sequential(Counted(4, 3), nn.Sequential(nn.Dropout(0.5), Counted(3, 2)))


def test_parameters_of_a_steady_model_are_its_own_in_their_order(model):
    own = list(model.parameters())
    with steady(model):
        for _ in range(2):
            assert [id(p) for p in model.parameters()] == [id(p) for p in own]
        assert not list(model.parameters(recurse=False))
        for parameter in own:
            parameter.grad = torch.ones_like(parameter)
        model.zero_grad()
        assert all(parameter.grad is None for parameter in own)


def test_modules_get_the_mode_once_it_changes_and_not_at_each_step(model):
    # As PEFT leaves a model: the outermost module trains, and the others do not.
    model[1].eval()
    before = model[0].count
    with steady(model):
        assert model.train() is model
        assert all(module.training for module in model.modules())
        model.train()
        assert model[0].count == before + 1
        model.eval()
        assert not any(module.training for module in model.modules())
        model.train()
        assert all(module.training for module in model.modules())
        assert model[0].count == before + 3


def test_model_is_as_before_after_the_block_and_after_an_error(model):
    before = set(vars(model))
    with pytest.raises(ZeroDivisionError), steady(model):
        raise ZeroDivisionError
    assert set(vars(model)) == before
    model.append(nn.Linear(2, 2))
    assert len(list(model.parameters())) == 6
