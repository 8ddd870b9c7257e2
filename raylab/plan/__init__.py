"""What will be done: trials, comparisons and shards, known before anything is touched."""
