"""Data sets: formats, readers, rows, preference pairs and chat templates."""
