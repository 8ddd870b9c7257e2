"""Tensors of models: checkpoints and adapters, read by rows, compared by view, and written.

A checkpoint is read by numpy; adapters (`raylab.weights.adapter`) take torch, which takes time to
import.
"""

from raylab.weights.checkpoint import Checkpoint
from raylab.weights.safetensors_reader import Shape

__all__ = ["Checkpoint", "Shape"]
