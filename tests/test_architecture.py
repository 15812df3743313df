from pathlib import Path

import pytest

TOP = Path(__file__).resolve().parents[1]
PAGE = (TOP / "docs" / "architecture.md").read_text()


def modules(directory: Path) -> list[str]:
    return sorted(path.stem for path in directory.iterdir() if path.suffix == ".py" and path.stem != "__init__")


@pytest.mark.parametrize("name", modules(TOP / "primep2p" / "services"))
def test_the_page_names_every_service(name):
    assert f"`{name}`" in PAGE or f"services/{name}.py" in PAGE


def test_the_page_names_every_part_of_the_package():
    parts = [f"{path.parent.name}/" for path in (TOP / "primep2p").glob("*/__init__.py")]
    parts += [f"{name}.py" for name in modules(TOP / "primep2p")]
    assert [part for part in parts if part.rstrip("/") not in PAGE] == []
