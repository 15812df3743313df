import re
import shutil
import subprocess
from pathlib import Path

import pytest

from primep2p.cli.exit_pages import EXIT_PAGES
from primep2p.cli.exits import EXIT_CODES
from primep2p.cli.main import app, main, print_error
from primep2p.model.errors import CallError, Unavailable

DOCS = Path(__file__).resolve().parents[2] / "docs"


@pytest.fixture
def command(capsys):
    def run(*arguments: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as ended:
            main(list(arguments))
        out, err = capsys.readouterr()
        return ended.value.code, out, err

    return run


def test_every_exit_code_has_a_page_and_every_page_a_file(command):
    assert set(EXIT_CODES.values()) < set(EXIT_PAGES)
    assert len(list((DOCS / "exits").iterdir())) == len(EXIT_PAGES)
    listed = command("help", "exit")[1]
    for code, page in EXIT_PAGES.items():
        assert re.search(rf"^ *{code}  {page.name} ", listed, re.MULTILINE)
        status, out, _ = command("help", "exit", str(code))
        assert status == 0
        assert all(line in out for line in (page.meaning, *page.causes, *page.remedies))


def test_the_name_of_a_code_is_that_of_its_errors():
    assert {EXIT_PAGES[code].name for code in EXIT_CODES.values()} == {kind.code for kind in EXIT_CODES}


@pytest.mark.parametrize("code", list(EXIT_PAGES))
def test_the_commands_that_a_page_names_are_there(code):
    page = EXIT_PAGES[code]
    for line in (*page.causes, *page.remedies):
        for words in re.findall(r"`primep2p ([a-z ]+)", line):
            found = app
            for word in words.split():
                found = found[word]


def test_what_is_no_code_and_no_command_is_refused(command):
    for words in (["exit", "99"], ["exit", "x"], ["exit", "1", "2"], ["nonsense"]):
        code, out, err = command("help", *words)
        assert (code, out) == (4, "")
        assert "see: primep2p help" in err


def test_help_of_a_command_is_its_help(command):
    assert command("help", "run", "create")[1] == command("run", "create", "--help")[1]
    assert command("help")[1] == command("--help")[1]


def test_an_error_that_knows_no_next_step_names_the_page_of_its_code(capsys):
    print_error(Unavailable("not now"))
    print_error(CallError("no such run", hint="see: primep2p run list"))
    assert capsys.readouterr().err.splitlines() == [
        "primep2p: not now",
        "  what that means: primep2p help exit 3",
        "primep2p: no such run",
        "  see: primep2p run list",
    ]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_each_shell_can_read_its_completion(command, shell):
    code, script, _ = command("completion", shell)
    assert code == 0
    assert "keys" in script
    if shutil.which(shell):
        read = subprocess.run([shell, "-n"], input=script, capture_output=True, text=True, timeout=30)
        assert (read.returncode, read.stderr) == (0, "")


@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash here")
@pytest.mark.parametrize(
    ("line", "completed"),
    [("primep2p ke", "keys"), ("primep2p keys ro", "rotate"), ("primep2p keys rotate --fo", "--force")],
)
def test_bash_completes_commands_and_options(command, line, completed):
    words = line.split()
    asked = f'\nCOMP_WORDS=({line}); COMP_CWORD={len(words) - 1}; _primep2p; echo "${{COMPREPLY[@]}}"'
    ran = subprocess.run(
        ["bash", "--norc"], input=command("completion", "bash")[1] + asked, capture_output=True, text=True, timeout=30
    )
    assert ran.stdout.strip() == completed


def test_install_writes_where_the_shell_looks(command, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_DATA_HOME", raising=False)
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    code, out, _ = command("completion", "fish", "--install")
    assert code == 0
    [written] = re.findall(r"wrote (\S+);", out)
    assert "rotate" in Path(written).read_text()


@pytest.mark.parametrize(
    ("words", "told", "see"),
    [
        ("run craete", 'Unknown command "craete". Did you mean "create"?', "primep2p run --help"),
        ("statsu", 'Unknown command "statsu". Did you mean "status"?', "primep2p --help"),
        ("round list", 'Unknown command "list".', "primep2p round --help"),
        ("run show", "primep2p run show needs RUN", "primep2p run show --help"),
        ("model publish 3b6d", "primep2p model publish needs --as", "primep2p model publish --help"),
        ("run show 3b6d 4c7e", "primep2p run show takes no more words: 4c7e", "primep2p run show --help"),
        ("run show 3b6d --bogus", "Unknown option: --bogus.", "primep2p run show --help"),
        ("status --home", "primep2p status needs --home", "primep2p status --help"),
    ],
)
def test_a_mistake_in_a_command_line_is_answered_with_the_help_of_that_command(command, words, told, see):
    assert command(*words.split()) == (2, "", f"primep2p: {told}\n  see: {see}\n")


def test_a_page_of_an_exit_code_has_its_parts_apart(command):
    assert "\n\nwhat to do\n" in command("help", "exit", "6")[1]
