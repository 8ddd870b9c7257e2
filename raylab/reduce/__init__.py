"""The reduction: exact norms, thresholds and moments of parameter differences. No Ray here."""
