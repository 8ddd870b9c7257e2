"""The report as one page, and its other forms."""
