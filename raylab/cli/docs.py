"""Make the pages of docs/commands, one a command: `python -m raylab.cli.docs`.

Invariant: the pages hold the commands' own help; a test makes them again and compares.
"""

from __future__ import annotations

import sys
from pathlib import Path

import typer
from typer.cli import get_docs_for_click

from raylab.cli.app import command_line

DIRECTORY = Path("docs/commands")


def pages() -> dict[str, str]:
    """Markdown by file name: one for each command, and README.md, which lists them."""
    group = typer.main.get_command(command_line())
    context = typer.Context(group, info_name="raylab")
    found = {}
    lines = ["# Commands\n", "Made by `make docs` out of the commands' own help.\n"]
    for name, command in group.commands.items():  # type: ignore[attr-defined]
        text = get_docs_for_click(obj=command, ctx=context, name=name, call_prefix="raylab")
        found[f"{name}.md"] = text.rstrip() + "\n"
        lines.append(f"- [`raylab {name}`]({name}.md): {(command.help or '').splitlines()[0]}")
    return {"README.md": "\n".join(lines) + "\n", **found}


def write(directory: Path) -> None:
    """Write every page, and remove the pages of commands that no longer exist."""
    directory.mkdir(parents=True, exist_ok=True)
    made = pages()
    for file in directory.glob("*.md"):
        if file.name not in made:
            file.unlink()
    for name, text in made.items():
        (directory / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    write(Path(sys.argv[1]) if len(sys.argv) > 1 else DIRECTORY)
