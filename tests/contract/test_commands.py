"""Every command has help, a section of its page, JSON where it only looks, and a test."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from cyclopts import App

from primep2p.cli.docs import cli_page
from primep2p.cli.main import app
from primep2p.control.calls import CALLS

TESTS = Path(__file__).resolve().parents[1]

SOURCES = "\n".join(path.read_text() for path in TESTS.rglob("*.py") if path != Path(__file__))

WITHOUT_JSON = {
    *("daemon start", "daemon stop", "daemon install", "daemon uninstall", "plugin new"),  # they do something
    *("help", "completion"),  # a page for people, a script for a shell
    "top",  # a screen
}


def walked(parent: App, words: tuple[str, ...] = ()) -> Iterator[tuple[str, App]]:
    for name in parent.resolved_commands():
        if name.startswith("-"):
            continue
        command = parent[name]
        if command.default_command is None:
            yield from walked(command, (*words, name))
        else:
            yield " ".join((*words, name)), command


COMMANDS = dict(walked(app))
PARAMETERS = {
    words: {name: argument for argument in command.assemble_argument_collection() for name in argument.names}
    for words, command in COMMANDS.items()
}


@pytest.mark.parametrize("words", COMMANDS)
def test_it_has_help_and_a_section_and_every_option_says_what_it_is(words):
    command = COMMANDS[words]
    assert (command.help or "").strip() or (command.default_command.__doc__ or "").strip()
    assert f"## primep2p {words}\n" in cli_page()
    for name, argument in PARAMETERS[words].items():
        assert argument.parameter.show is False or argument.children or argument.parameter.help, name


@pytest.mark.parametrize("words", COMMANDS)
def test_it_prints_json_where_it_answers_anything(words):
    assert ("--json" in PARAMETERS[words]) == (words not in WITHOUT_JSON)
    if words in WITHOUT_JSON:
        assert not any(call.access == "read" for call in CALLS.values() if call.command == words)


@pytest.mark.parametrize("words", COMMANDS)
def test_some_test_runs_it(words):
    """By its words, or by the call that it sends, as the walk over all calls runs that."""
    by_words = re.escape('", "'.join(words.split()))
    is_a_call = words in {call.command for call in CALLS.values()}
    assert is_a_call or re.search(rf'"{by_words}"', SOURCES), f"no test runs primep2p {words}"
