"""How people say which model they mean."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from primep2p.core.references import ModelRef, RunRef, own_name, parse
from primep2p.model.errors import CallError
from primep2p.model.shelf import ModelName
from tests.wire.samples import identity

OWNER = identity(1).peer_id
HASH = "ab" * 32


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("46553f", RunRef("46553f")),
        ("46553F@latest", RunRef("46553f")),
        ("4@7", RunRef("4", 7)),
        (f"{HASH}@0:{HASH}", RunRef(HASH, 0, bytes.fromhex(HASH))),
        ("digits", ModelRef("", "digits")),
        ("digits@latest", ModelRef("", "digits")),
        ("digits@12", ModelRef("", "digits", "12")),
        (f"{OWNER}/digits", ModelRef(OWNER, "digits")),
        (f"{OWNER}/digits@v1.2", ModelRef(OWNER, "digits", "v1.2")),
        ("face-1", ModelRef("", "face-1")),
    ],
)
def test_a_reference_means_one_model(text: str, meant: RunRef | ModelRef) -> None:
    assert parse(text) == meant


@pytest.mark.parametrize(
    "text",
    [
        "",
        "@",
        "@1",
        "46553f@",
        "46553f@x",
        "46553f@-1",
        "46553f@1:ab",
        "46553f@1:",
        "a" * 65 + "@1",
        "digits@",
        "digits@A",
        "Digits",
        "/digits",
        "somebody/digits",
        f"{OWNER}/face",
        f"{OWNER}/",
        f"{OWNER}/a/b",
        f"{OWNER}x/digits",
        "../digits",
    ],
)
def test_what_means_nothing_is_refused_with_a_hint(text: str) -> None:
    with pytest.raises(CallError) as caught:
        parse(text)
    assert caught.value.hint


@given(st.from_regex(re.compile(ModelName.__metadata__[0].pattern.replace(r"\Z", "")), fullmatch=True))
def test_no_name_is_read_as_a_run(name: str) -> None:
    if len(name) <= 40:
        assert parse(name) == ModelRef("", name)


@given(st.text(max_size=80) | st.text(alphabet="0123456789abcdefg/@:.-", max_size=80))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        meant = parse(text)
    except CallError:
        return
    if isinstance(meant, ModelRef):
        assert parse(str(meant)) == meant


def test_only_ones_own_models_are_changed() -> None:
    assert own_name("digits", OWNER) == own_name(f"{OWNER}/digits", OWNER) == "digits"
    with pytest.raises(CallError, match="somebody else"):
        own_name(f"{identity(2).peer_id}/digits", OWNER)
    for text in ("digits@1", "46553f"):
        with pytest.raises(CallError, match="no name of a model of yours"):
            own_name(text, OWNER)
