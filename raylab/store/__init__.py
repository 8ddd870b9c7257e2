"""The store of a study: files, records, attempts, the lease of its driver, and tables."""
