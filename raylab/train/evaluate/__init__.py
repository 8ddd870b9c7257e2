"""Evaluation of a trained model: its answers, and how likely it finds held-out answers."""
