"""`raylab data`: describe data sets, and write their answers in another style.

Model: a verb reads its files as a study would, does one thing, and prints the result.
Both call the columns as a study does.
Invariant: `describe` writes nothing, ends with 2 where a study would refuse a file, and loads
neither torch nor transformers unless a tokenizer is named; `convert` replaces no file unasked, and
ends with 1 where too few answers are in the style.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from raylab.cli.options import Json, console, say
from raylab.errors import InputError

app = typer.Typer(no_args_is_help=True)


@app.callback()
def data() -> None:
    """Look at data sets, and make one out of another."""


Files = Annotated[
    list[Path],
    typer.Argument(metavar="FILE...", help="Files or directories, or one study, a YAML file."),
]
_PANEL = "Columns, as a study calls them; once for all files, or once for each in their order"
Formats = Annotated[
    list[str] | None,
    typer.Option("--format", help="The format of the columns.", rich_help_panel=_PANEL),
]


def _column(holds: str) -> Any:
    return typer.Option(help=f"The column that holds {holds}.", rich_help_panel=_PANEL)


Column = str | None
Columns = list[str] | None
PROMPT, COMPLETION = _column("the prompt"), _column("the answer")
CHOSEN, REJECTED = _column("the preferred answer"), _column("the other answer")
MESSAGES, KEY = _column("a conversation"), _column("the key of a pair")
SYSTEM, CONTEXT = _column("the system prompt"), _column("a text that follows the prompt")
HISTORY, TOOLS = _column("earlier turns, as pairs"), _column("the tools that may be called")
LABEL = _column("whether an answer is one to learn (KTO)")
IGNORE = typer.Option(help="Columns, with commas, not to be used.", rich_help_panel=_PANEL)


@app.command()
def describe(
    files: Files,
    tokenizer: Annotated[
        str | None, typer.Option(help="A model's directory: lengths in its tokens as well.")
    ] = None,
    form: Formats = None,
    prompt: Annotated[Columns, PROMPT] = None,
    completion: Annotated[Columns, COMPLETION] = None,
    chosen: Annotated[Columns, CHOSEN] = None,
    rejected: Annotated[Columns, REJECTED] = None,
    messages: Annotated[Columns, MESSAGES] = None,
    key: Annotated[Columns, KEY] = None,
    system: Annotated[Columns, SYSTEM] = None,
    context: Annotated[Columns, CONTEXT] = None,
    history: Annotated[Columns, HISTORY] = None,
    tools: Annotated[Columns, TOOLS] = None,
    label: Annotated[Columns, LABEL] = None,
    ignore: Annotated[Columns, IGNORE] = None,
    as_json: Json = False,
) -> None:
    """Count, measure and check the rows of data sets; try two of them as pairs.

    For a study: all of its data, with the checks of `raylab run`.
    """
    columns = {
        "format": form,
        "prompt": prompt,
        "completion": completion,
        "chosen": chosen,
        "rejected": rejected,
        "messages": messages,
        "key": key,
        "system": system,
        "context": context,
        "history": history,
        "tools": tools,
        "label": label,
        "ignore": ignore,
    }
    found = _described(files, tokenizer, columns)
    if as_json:
        print(json.dumps(found, ensure_ascii=False, indent=1))
    else:
        _print_description(found)
    if found.get("problems") or any(item["problems"] for item in found["files"]):
        raise typer.Exit(2)


@app.command()
def convert(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The data set.")],
    style: Annotated[str, typer.Option(help="The style to make: ojousama.")],
    out: Annotated[Path, typer.Option(help="The new file, of the same kind.")],
    at_least: Annotated[
        float,
        typer.Option(
            min=0, max=1, help="The share of answers to be in the style; fewer: exit status 1."
        ),
    ] = 0.9,
    form: Annotated[str | None, typer.Option("--format", help="The format of the columns.")] = None,
    prompt: Annotated[Column, typer.Option(help="The column that holds the prompt.")] = None,
    completion: Annotated[
        Column, typer.Option(help="The column that holds the answer, which is rewritten.")
    ] = None,
    messages: Annotated[
        Column, typer.Option(help="The column that holds a conversation; its end is rewritten.")
    ] = None,
    system: Annotated[Column, typer.Option(help="The column that holds the system prompt.")] = None,
    context: Annotated[
        Column, typer.Option(help="The column that holds a text that follows the prompt.")
    ] = None,
    ignore: Annotated[Column, typer.Option(help="Columns, with commas, not to be used.")] = None,
    column: Annotated[Column, typer.Option(hidden=True)] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace OUT if it is there.")] = False,
) -> None:
    """Write a data set again with its answers in another style; everything else stays."""
    from raylab.conversion.convert import convert_file

    answers = completion or column
    fields = {"format": form, "prompt": prompt, "messages": messages, "system": system}
    fields |= {"context": context, "ignore": ignore}
    made = convert_file(file, out, style, answers, force=force, **fields)
    print(f"{out}: {made.rewritten} of {made.rows} answers rewritten")
    if made.unchanged:
        more = "" if len(made.unchanged) <= 10 else f" and {len(made.unchanged) - 10} more"
        say(f"unchanged rows: {', '.join(made.unchanged[:10])}{more}")
    if made.style_before is None or made.style_after is None:
        return
    print(f"in the style: {made.style_before:.1%} before, {made.style_after:.1%} after")
    if made.style_after < at_least:
        say(
            f"raylab: {made.style_after:.1%} of the answers are in the style {style}, and "
            f"{at_least:.1%} are asked for: the rules do not know how the others are written"
            f"\n  to do: read {out}, rewrite the others, or accept it with --at-least"
        )
        raise typer.Exit(1)


def _described(
    files: list[Path], tokenizer: str | None, columns: dict[str, list[str] | None]
) -> dict[str, Any]:
    """The description of files, or of all data of a study."""
    from raylab.spec.data.describe import describe_files
    from raylab.spec.data.describe_study import describe_study

    studies = [file for file in files if file.suffix.lower() in (".yaml", ".yml")]
    if not studies:
        return describe_files(files, tokenizer, **columns)
    given = [f"--{name}" for name, value in columns.items() if value]
    if len(files) > 1 or given:
        raise InputError(
            f"{studies[0]} is a study, which says what its data is",
            found=" ".join([*(str(file) for file in files if file != studies[0]), *given]),
            expected="one study alone, or files of data with options",
        )
    return describe_study(studies[0], tokenizer)


def _print_description(found: dict[str, Any]) -> None:
    from raylab.spec.data.example import example_lines

    for item in found["files"]:
        called = f"{item['name']} ({item['file']})" if "name" in item else item["file"]
        print(f"{called}: {item['rows']} rows, format {item['format'] or 'unknown'}")
        if item["rows"]:
            _print_rows(item)
        if item["example"]:
            print(*(f"  {line}" for line in example_lines(item["example"])), sep="\n")
        for kind in ("problems", "warnings"):
            for line in item[kind]:
                print(f"  {kind.removesuffix('s')}: {line}")
    for place, what in found.get("problems", {}).items():
        print(f"problem: {place}: {what}")
    is_sound = not any(item["problems"] for item in found["files"])
    if found.get("problems") == {} and is_sound:
        print("a run would take all of this data")
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
