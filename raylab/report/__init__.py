"""From tables to findings, figures and one page. Needs neither torch nor Ray."""
