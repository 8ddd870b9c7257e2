"""Data sets as files: what they hold, and what is made from them."""
