"""Lazy readers of weights: a checkpoint, or an adapter, one tensor or a few rows at a time."""

from raylab.weights.adapter import Adapter
from raylab.weights.checkpoint import Checkpoint
from raylab.weights.safetensors_reader import Shape

__all__ = ["Adapter", "Checkpoint", "Shape"]
