from pathlib import Path

import pytest

from primep2p.cli.docs import PAGES

DOCS = Path(__file__).resolve().parents[2] / "docs"


@pytest.mark.parametrize("name", list(PAGES))
def test_the_page_says_what_the_declarations_say(name):
    assert (DOCS / name).read_text() == PAGES[name](), "out of date: run python -m primep2p.cli.docs"


def test_every_command_is_on_its_page():
    page = PAGES["cli.md"]()
    for command in ("daemon start", "daemon logs", "run create", "run watch", "status", "peers", "demo", "doctor"):
        assert f"## primep2p {command}\n" in page
