"""TIES and its relatives, written block by block."""
