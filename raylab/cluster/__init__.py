"""The only place that knows Ray: trials on Tune, shards on pinned actors, whole studies."""
