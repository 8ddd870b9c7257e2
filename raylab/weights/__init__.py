"""Tensors of models: checkpoints and adapters, read by rows, compared by view, and written."""

from raylab.weights.adapter import Adapter
from raylab.weights.checkpoint import Checkpoint
from raylab.weights.safetensors_reader import Shape

__all__ = ["Adapter", "Checkpoint", "Shape"]
