"""The only package that imports Ray: trials on Tune, shards on pinned actors, whole studies."""
