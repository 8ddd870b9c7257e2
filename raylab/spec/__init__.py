"""The study file, validated and frozen, and the identity of every trial."""
