"""`raylab data`: describe data sets, and write their answers in another style.

Model: a verb reads its files as a study would, does one thing, and prints the result.
Invariant: `describe` writes nothing, ends with 2 where a study would refuse a file, and loads
neither torch nor transformers unless a tokenizer is named; `convert` replaces no file unasked.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from raylab.cli.options import Json, console, say

app = typer.Typer(no_args_is_help=True, help="Look at data sets, and make one out of another.")

Files = Annotated[list[Path], typer.Argument(metavar="FILE...", help="Files or directories.")]
Column = typer.Option(help="The column, if it is called otherwise.", rich_help_panel="Columns")


@app.command()
def describe(
    files: Files,
    tokenizer: Annotated[
        str | None, typer.Option(help="A model's directory: lengths in its tokens as well.")
    ] = None,
    form: Annotated[
        str | None, typer.Option("--format", help="What the columns mean, as in a study.")
    ] = None,
    prompt: Annotated[str | None, Column] = None,
    completion: Annotated[str | None, Column] = None,
    as_json: Json = False,
) -> None:
    """Count, measure and check the rows of data sets; try two of them as pairs."""
    from raylab.spec.data.describe import describe_files

    found = describe_files(files, tokenizer, format=form, prompt=prompt, completion=completion)
    if as_json:
        print(json.dumps(found, ensure_ascii=False, indent=1))
    else:
        _print_description(found)
    if any(item["problems"] for item in found["files"]):
        raise typer.Exit(2)


@app.command()
def convert(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The data set.")],
    style: Annotated[str, typer.Option(help="The style to make: ojousama.")],
    out: Annotated[Path, typer.Option(help="The new file, of the same kind.")],
    column: Annotated[
        str | None, typer.Option(help="The column to rewrite [default: the answers].")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace OUT if it is there.")] = False,
) -> None:
    """Write a data set again with its answers in another style; everything else stays."""
    from raylab.conversion.convert import convert_file

    made = convert_file(file, out, style, column, force=force)
    print(f"{out}: {made.rewritten} of {made.rows} answers rewritten")
    if made.style_before is not None and made.style_after is not None:
        print(f"in the style: {made.style_before:.1%} before, {made.style_after:.1%} after")
    if made.unchanged:
        more = "" if len(made.unchanged) <= 10 else f" and {len(made.unchanged) - 10} more"
        say(f"unchanged rows: {', '.join(made.unchanged[:10])}{more}")


def _print_description(found: dict[str, Any]) -> None:
    for item in found["files"]:
        print(f"{item['file']}: {item['rows']} rows, format {item['format'] or 'unknown'}")
        if item["rows"]:
            _print_rows(item)
        for kind in ("problems", "warnings"):
            for line in item[kind]:
                print(f"  {kind.removesuffix('s')}: {line}")
    if pairs := found.get("pairs"):
        print(f"as pairs: {'; '.join(pairs['problems']) or str(pairs['rows']) + ' rows'}")


def _print_rows(item: dict[str, Any]) -> None:
    several = f", {item['several_turns']} of several turns" if item["several_turns"] else ""
    print(
        f"  {item['distinct_prompts']} distinct prompts, {item['repeated_prompts']} asked before, "
        f"{item['distinct_answers']} distinct answers{several}"
    )
    table = Table("  length", "min", "median", "95 %", "max", box=None, pad_edge=False)
    for unit, parts in item["lengths"].items():
        for part, spread in parts.items():
            table.add_row(f"  {part} ({unit})", *map(str, spread.values()))
    console().print(table)
    for kind in ("styles", "scripts"):
        shares = [f"{name} {share:.1%}" for name, share in item[kind].items() if share]
        print(f"  {kind} of answers: {', '.join(shares) or 'none of those known'}")
