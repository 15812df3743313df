"""Invites as text: what is handed over comes out whole or not at all, and is shown to nobody else."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from primep2p.model.errors import CallError
from primep2p.wire.token import PREFIX, Token, read_token, write_token

SEED = bytes(range(100, 132))
TOKEN = Token(bytes(range(32)), b"invite" * 40, SEED, ("/ip4/192.0.2.7/tcp/4650", "/ip6/::1/tcp/4650"), "main")
TEXT = write_token(TOKEN)


def test_what_is_written_is_read_also_from_a_mail_that_broke_it_into_lines():
    assert read_token(TEXT) == TOKEN
    lines = [TEXT[start : start + 72] for start in range(0, len(TEXT), 72)]
    assert read_token("\r\n  ".join(lines) + "\n") == TOKEN


@given(st.integers(0, len(TEXT) - 1))
def test_a_token_that_lost_its_end_is_refused_with_one_sentence_that_does_not_show_it(length):
    with pytest.raises(CallError, match="the invite is not whole") as refused:
        read_token(TEXT[:length])
    assert "primep2p run invite" in refused.value.hint
    assert length < len(PREFIX) + 8 or TEXT[:length] not in f"{refused.value.sentence} {refused.value.hint}"


@given(st.integers(len(PREFIX), len(TEXT) - 3), st.sampled_from("AbZ09-_"))
def test_a_token_with_another_digit_is_refused(place, digit):
    changed = TEXT[:place] + digit + TEXT[place + 1 :]
    if changed == TEXT:
        return
    with pytest.raises(CallError, match="the invite is not whole"):
        read_token(changed)


@pytest.mark.parametrize("text", ["", PREFIX, "é", PREFIX + "A" * 20_000, PREFIX + "!!!!"])
def test_what_never_was_a_token_is_refused(text):
    with pytest.raises(CallError):
        read_token(text)


def test_a_token_in_a_log_is_no_invite():
    for shown in (repr(TOKEN), str(TOKEN), f"{TOKEN}", repr((TOKEN,)), repr(TOKEN.__rich_repr__())):
        assert repr(SEED)[2:-1] not in shown
        assert SEED.hex() not in shown
