"""Tables and live progress in a terminal."""
