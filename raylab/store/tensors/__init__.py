"""Lazy readers of weights: a checkpoint, or an adapter, one tensor or a few rows at a time."""

from raylab.store.tensors.adapter import Adapter
from raylab.store.tensors.checkpoint import Checkpoint
from raylab.store.tensors.files import Shape

__all__ = ["Adapter", "Checkpoint", "Shape"]
