"""The answers of a data set rewritten in another style."""
