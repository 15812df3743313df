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


def test_the_page_names_every_part_of_the_package():
    parts = [f"{path.parent.name}/" for path in (TOP / "primep2p").glob("*/__init__.py")]
    parts += [f"{name}.py" for name in modules(TOP / "primep2p")]
    assert [part for part in parts if part.rstrip("/") not in PAGE] == []
