"""The checks of `check_gpu`: one module for each, the table of them, and what runs them."""
