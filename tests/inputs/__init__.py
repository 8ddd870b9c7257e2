"""Inputs as they are found, each a made-up minimal case."""
