"""The help of every command says all that its options say."""

import re

import pytest
import typer

from raylab import __version__
from raylab.cli.app import command_line
from tests.commands import exit_status


def commands():
    """(words, command) of every command, groups left out."""
    group = typer.main.get_command(command_line())
    for name, command in group.commands.items():
        for below, inner in getattr(command, "commands", {}).items():
            yield (name, below), inner
        if not hasattr(command, "commands"):
            yield (name,), command


COMMANDS = dict(commands())


@pytest.fixture
def shown(capsys, monkeypatch):
    """The help of a command, without borders and line breaks."""
    monkeypatch.setenv("TERMINAL_WIDTH", "200")
    monkeypatch.setenv("COLUMNS", "200")

    def of(words):
        assert exit_status(*words, "--help") == 0
        return " ".join(re.sub("[│╭╮╰╯─]", " ", capsys.readouterr().out).split())

    return of


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_help_of_a_command_has_every_word_of_its_options(words, shown):
    text, checked = shown(words), 0
    for parameter in COMMANDS[words].params:
        told = getattr(parameter, "help", None)
        if told and not getattr(parameter, "hidden", False):
            checked += 1
            for word in told.split():
                assert word in text, (parameter.name, word)
        if isinstance(getattr(parameter, "show_default", None), str):
            assert f"[default: ({parameter.show_default})]" in text
    assert checked or not COMMANDS[words].params


def test_help_of_run_says_where_results_go(shown):
    assert "[default: (runs/<name>)]" in shown(("run",))
    assert "[default: (all cores)]" in shown(("diff",))


def test_version_is_printed_alone(capsys):
    assert exit_status("--version") == 0
    assert capsys.readouterr().out == f"raylab {__version__}\n"


def test_merge_of_a_family_of_methods_proposes_them_before_all_else(capsys):
    assert exit_status("merge", "dare") == 2
    assert "did you mean dare_ties or dare_linear?" in capsys.readouterr().err
