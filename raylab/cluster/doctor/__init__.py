"""Checks of every node of a cluster before a study."""
