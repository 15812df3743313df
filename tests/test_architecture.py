import re
from pathlib import Path

import pytest

TOP = Path(__file__).resolve().parents[1]
SERVICES = TOP / "primep2p" / "services"
PAGE = (TOP / "docs" / "architecture.md").read_text()


def modules(directory: Path) -> list[str]:
    return sorted(path.stem for path in directory.iterdir() if path.suffix == ".py" and path.stem != "__init__")


@pytest.mark.parametrize("room", sorted(path.parent.name for path in SERVICES.glob("*/__init__.py")))
def test_the_page_names_every_service(room):
    _, found, rest = PAGE.partition(f"| `{room}/` |")
    rows, _, _ = rest.partition("/` |")
    assert found
    assert [name for name in modules(SERVICES / room) if f"`{name}`" not in rows] == []


def test_the_page_names_what_lies_beside_the_rooms_of_services():
    assert [name for name in modules(SERVICES) if f"`{name}`" not in PAGE and f"services/{name}.py" not in PAGE] == []


def test_the_page_names_every_room_of_the_commands():
    rooms = [path.parent.name for path in (TOP / "primep2p" / "cli").glob("*/__init__.py")]
    assert [room for room in rooms if f"`{room}/`" not in PAGE] == []


def test_the_page_names_every_part_of_the_package():
    parts = [f"{path.parent.name}/" for path in (TOP / "primep2p").glob("*/__init__.py")]
    parts += [f"{name}.py" for name in modules(TOP / "primep2p")]
    assert [part for part in parts if part.rstrip("/") not in PAGE] == []


@pytest.mark.parametrize("page", sorted((TOP / "docs").rglob("*.md")), ids=lambda page: page.name)
def test_every_page_is_linked_from_another_one(page):
    others = [other for other in [*TOP.glob("*.md"), *(TOP / "docs").rglob("*.md")] if other != page]
    target = r"docs/adr\)" if page.name == "README.md" else rf"{re.escape(page.name)}[)#]"
    assert any(re.search(rf"\]\([\w/.-]*{target}", other.read_text()) for other in others)


def test_the_list_of_decisions_has_each_by_its_number():
    decisions = sorted(page.name for page in (TOP / "docs" / "adr").glob("[0-9]*.md"))
    listed = re.findall(r"^- \[(\d{3}) .*\]\((.*)\)$", (TOP / "docs" / "adr" / "README.md").read_text(), re.MULTILINE)
    assert listed == [(f"{number:03}", name) for number, name in enumerate(decisions, 1)]
    assert all(name.startswith(f"{number}-") for number, name in listed)
