"""The tables of docs/kernels.md have the names, defaults and needs of the code."""

import re
from pathlib import Path
from typing import Any, get_args

import msgspec
import pytest

from primep2p.model.pipeline import Bucketing, Outer, Pre, Rule, Stage, Wire

PAGE = (Path(__file__).parents[2] / "docs" / "kernels.md").read_text()

STAGES = [kind for union in (Rule, Pre) for kind in get_args(union)]
KINDS = [*STAGES, *get_args(Outer), *get_args(Wire)]

SHOWN: dict[tuple[str, Any], str] = {("m", 0): "all but f"}
"""Defaults that stand for something else."""


def row_of(kind: type[msgspec.Struct]) -> list[str]:
    """The cells of the first line that begins with its name, alone or beside others."""
    rows = (line.strip("|").split("|") for line in PAGE.splitlines() if line.startswith("| `"))
    return [cell.strip() for cell in next(row for row in rows if f"`{kind.__struct_config__.tag}`" in row[0])]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__struct_config__.tag)
def test_the_page_has_every_setting_with_its_default_and_no_other(kind: type[msgspec.Struct]) -> None:
    told = dict(re.findall(r"`(\w+)` \(\"?([^,\")]*)", row_of(kind)[1]))
    fields = msgspec.structs.fields(kind)
    expected = {field.name: SHOWN.get((field.name, field.default), field.default) for field in fields}
    assert told.keys() == expected.keys()
    for name, default in expected.items():
        value = told[name]
        assert value == str(default).lower() or float(value) == default, name


@pytest.mark.parametrize("kind", [kind for kind in STAGES if kind is not Bucketing], ids=lambda kind: kind.__name__)
def test_the_page_has_how_many_updates_a_stage_needs(kind: type[Stage]) -> None:
    needs = row_of(kind)[2]
    assert needs.split(", ")[0] in (kind().bound, str(kind().least_updates))
