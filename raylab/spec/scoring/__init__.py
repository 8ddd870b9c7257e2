"""How answers are scored: Japanese, repetition, style."""
