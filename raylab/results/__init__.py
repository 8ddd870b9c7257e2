"""The plan and the store joined: one row for every planned trial, merge and comparison."""
