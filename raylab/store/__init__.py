"""Where results lie: addresses, records, tables, and lazy readers of tensors."""
