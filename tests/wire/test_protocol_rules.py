"""docs/protocol.md and the code name the same rules and the same fields."""

import re
from pathlib import Path

import pytest
from msgspec import Struct

from primep2p.model import pipeline
from primep2p.model.records import KERNELS_DIGEST, KERNELS_VERSION, PROTOCOL_VERSION
from tests.wire.samples import MESSAGES, RECORDS

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "protocol.md").read_text()

CITATION = re.compile(r"\[((?:[A-Z]\d+)(?:(?:, |-)[A-Z]\d+)*)\]")

KEPT_WITHOUT_CITING = {
    "A2": "primep2p/services/aggregating/aggregation.py raises this reason",
    "D2": "core/runs.py holds, core/gossip.py keeps two a slot",
    "N1": "net/libp2p_transport.py and libp2p_host.py; tests/net",
    "N3": "core/runs.py says who hears and who stays connected, services/peers/members.py does it",
    "N4": "services/runs/rounds.py has the topic",
    "N5": "net/libp2p_directory.py, services/blobs/announcing.py, services/runs/joining.py have the keys",
    "Q1": "services/peers/sync.py asks, services/peers/answers.py answers",
    "R1": "services/runs/joining.py checks a spec that it is given",
    "T1": "model/transfer.py declares it, services/blobs/serving.py answers",
    "T2": "services/blobs/serving.py",
    "T3": "core/fetch.py",
}
"""Rules that no line has to cite, and where they are kept."""


def defined() -> list[str]:
    """Rules, in the order of the page."""
    return re.findall(r"^\*\*\[([A-Z]\d+)\]\*\*", PAGE, re.MULTILINE)


def expand(citation: str) -> set[str]:
    """`P1, P3-P6` names five rules."""
    found = set()
    for part in citation.split(", "):
        first, _, last = part.partition("-")
        numbers = range(int(first[1:]), int((last or first)[1:]) + 1)
        assert not last or first[0] == last[0], f"a range from one letter to another: {citation}"
        found |= {f"{first[0]}{number}" for number in numbers}
    return found


def cited(*directories: str) -> dict[str, list[str]]:
    """Rules that files name in brackets, and where."""
    found: dict[str, list[str]] = {}
    for directory in directories:
        for path in sorted((ROOT / directory).rglob("*.py")):
            for citation in CITATION.findall(path.read_text()):
                for rule in expand(citation):
                    found.setdefault(rule, []).append(str(path.relative_to(ROOT)))
    return found


def declared() -> dict[str, list[str]]:
    """Fields that the page gives to each record and message, tags included."""
    return {type_: [part.split(":")[0].strip() for part in parts] for type_, parts in layouts().items()}


def layouts() -> dict[str, list[str]]:
    """What the page says of each record and message, field by field."""
    found = re.findall(r"^(?:[a-z]* {3,})?(\w+) += \[(.*?)\]$", PAGE, re.MULTILINE | re.DOTALL)
    return {type_: body.split(";") for type_, body in found}


def test_no_rule_is_there_twice() -> None:
    assert len(defined()) == len(set(defined()))


@pytest.mark.parametrize("rule", sorted(cited("primep2p")))
def test_a_rule_that_the_code_cites_exists(rule: str) -> None:
    assert rule in defined(), f"cited in {', '.join(cited('primep2p')[rule])}"


@pytest.mark.parametrize("rule", defined())
def test_a_rule_is_cited_or_it_is_said_where_it_is_kept(rule: str) -> None:
    assert rule in cited("primep2p", "tests") or rule in KEPT_WITHOUT_CITING


def test_what_is_said_to_go_without_citing_does() -> None:
    assert not KEPT_WITHOUT_CITING.keys() & cited("primep2p").keys(), "cited now: drop it from the list"
    assert KEPT_WITHOUT_CITING.keys() <= set(defined())


def test_the_page_cites_only_rules_that_it_has() -> None:
    assert set().union(*map(expand, CITATION.findall(PAGE))) <= set(defined())


def test_the_page_has_the_versions_and_the_digest_of_the_code() -> None:
    assert f"`protocol` is {PROTOCOL_VERSION}, `kernels` is {KERNELS_VERSION}." in PAGE
    assert f"`protocol`, {PROTOCOL_VERSION} on this page" in PAGE
    assert f"the protocol is version {PROTOCOL_VERSION}," in (ROOT / "README.md").read_text()
    assert f"`{KERNELS_DIGEST.hex()}`" in PAGE


def test_the_page_has_the_bounds_of_a_pipelines_settings() -> None:
    bounds = {
        "liars": pipeline.Liars,
        "positive": pipeline.Positive,
        "rate": pipeline.Rate,
        "decay": pipeline.Decay,
    }
    (told,) = re.findall(r"^`share` is a text.*?\. A pipeline", PAGE, re.MULTILINE | re.DOTALL)
    words = " ".join(told.split())
    for name, type_ in bounds.items():
        (meta,) = type_.__metadata__
        least = f"from {_short(meta.ge)}" if meta.ge is not None else f"above {_short(meta.gt)}"
        most = rf"to {_short(meta.le)}" if meta.le is not None else f"below {_short(meta.lt)}"
        assert re.search(rf"`{name}` [a-z ]*{re.escape(least)} [a-z ]*{re.escape(most)}\b", words), name


def _short(number: float) -> str:
    """As people write it: 1e30, not 1e+30."""
    return re.sub(r"e\+0*", "e", f"{number:g}")


@pytest.mark.parametrize("type_", [*RECORDS, *MESSAGES], ids=lambda type_: type_.__name__)
def test_the_page_lists_the_fields_in_their_order(type_: type[Struct]) -> None:
    tag = type_.__struct_config__.tag
    assert declared()[type_.__name__] == ([f'"{tag}"'] if tag else []) + list(type_.__struct_fields__)


@pytest.mark.parametrize("type_", [*RECORDS, *MESSAGES], ids=lambda type_: type_.__name__)
def test_the_page_marks_the_fields_that_may_be_missing(type_: type[Struct]) -> None:
    parts = layouts()[type_.__name__]
    optional = [part.split(":")[0].strip() for part in parts if part.strip().endswith("?")]
    fields, defaults = type_.__struct_fields__, type_.__struct_defaults__
    assert optional == list(fields[len(fields) - len(defaults) :])
