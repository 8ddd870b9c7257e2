"""Callbacks of Ray Tune: progress, tracking, early comparisons, failures."""
