"""How much of a transfer the owner is told: its ends always, and what is between at a bounded rate."""

import itertools

from hypothesis import given
from hypothesis import strategies as st

from primep2p.model.views.events import AnyEvent, TransferBegun, TransferDone, TransferFailed, TransferMoved
from primep2p.services.blobs.progress import EVERY_S, Progress


@given(st.lists(st.tuples(st.floats(0, 1), st.integers(1, 2**20), st.sampled_from("ab")), min_size=1, max_size=60))
def test_a_bar_is_told_its_ends_and_moves_forward_at_a_bounded_rate(chunks):
    told: list[tuple[float, AnyEvent]] = []
    now, size = 0.0, sum(size for _, size, _ in chunks)
    progress = Progress("cid", lambda event: told.append((now, event)), now)
    progress.begun(size, 0, "a", now)
    for wait_s, chunk_bytes, provider in chunks:
        now += wait_s
        progress.got(chunk_bytes, provider, now)
    progress.done(now)
    (_, begun), *moves, (_, done) = told
    assert isinstance(begun, TransferBegun)
    assert isinstance(done, TransferDone)
    assert (done.bytes, done.seconds, set(done.providers)) == (size, round(now, 3), {who for _, _, who in chunks})
    here = [event.bytes_here for _, event in moves if isinstance(event, TransferMoved)]
    assert len(here) == len(moves) <= now / EVERY_S
    assert here == sorted(set(here))
    assert all(each < size for each in here)
    assert all(later - sooner >= EVERY_S for (sooner, _), (later, _) in itertools.pairwise(moves))


def test_one_that_is_given_up_is_told_with_the_reason():
    told: list[AnyEvent] = []
    Progress("cid", told.append, 0.0).failed("nobody has it")
    assert told == [TransferFailed(cid="cid", bytes=0, reason="nobody has it")]
