"""The command line in the process of the tests."""

from __future__ import annotations

from raylab.cli import main


def exit_status(*words: object) -> int | str:
    """Run `raylab` with `words` in this process; its exit status, 0 where it does not exit."""
    try:
        main([str(word) for word in words])
    except SystemExit as end:
        return end.code or 0
    return 0
