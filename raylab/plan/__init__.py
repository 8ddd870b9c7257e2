"""The plan of a study: its trials, merges and comparisons, their states, schedule and resources."""
