"""Examining a cluster: the facts of every node, and what would make a study fail there."""
