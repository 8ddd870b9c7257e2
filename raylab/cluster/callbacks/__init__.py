"""Callbacks of Ray Tune: progress, tracking, previews of comparisons, failures."""
