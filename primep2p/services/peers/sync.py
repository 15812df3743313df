"""Questions and answers over `/primep2p/sync/1`: one question a stream, each with a deadline."""

from collections.abc import Awaitable, Callable
from typing import TypeVar

import trio

from primep2p.model.errors import PeerError, Unavailable
from primep2p.model.ids import PeerId
from primep2p.model.messages import Nothing, SyncAnswer, SyncQuestion
from primep2p.net.frames import Frames
from primep2p.net.host import Host, Stream
from primep2p.wire.codec import MAX_RECORD_BYTES, decode, encode

__all__ = ["ASK_S", "PROTOCOL", "Sync"]

PROTOCOL = "/primep2p/sync/1"

ASK_S = 10.0
"""For a question and its answer, which is at most a few megabytes."""

MAX_QUESTION_BYTES = 64 * 1024
MAX_AT_ONCE = 64
MAX_OF_ONE = 4
"""Questions answered at once, for all peers and for one; one more is refused."""

A = TypeVar("A")

Answer = Callable[[PeerId, SyncQuestion], Awaitable[SyncAnswer]]


class Sync:
    """Asks peers, and answers them with `answer(peer, question)`."""

    def __init__(self, host: Host, answer: Answer, blame: Callable[[PeerId, str], None]) -> None:
        self._host = host
        self._answer = answer
        self._blame = blame
        self._at_once: dict[PeerId, int] = {}
        host.handle(PROTOCOL, self._serve)

    async def ask(self, peer: PeerId, question: SyncQuestion, want: type[A]) -> A:
        """The answer of `peer` if it is of the wanted kind. Raises Unavailable where it is not, or not in time."""
        answer = await self.answer_of(peer, question)
        if not isinstance(answer, want):
            reason = answer.reason if isinstance(answer, Nothing) else "another answer than was asked for"
            raise Unavailable(f"{peer}: {reason}")
        return answer

    async def answer_of(self, peer: PeerId, question: SyncQuestion) -> SyncAnswer:
        """Whatever `peer` answers. Raises Unavailable where it does not in time."""
        try:
            with trio.fail_after(ASK_S):
                stream = await self._host.open_stream(peer, PROTOCOL)
                try:
                    frames = Frames(stream, MAX_RECORD_BYTES)
                    await frames.send(encode(question))
                    payload = await frames.receive()
                finally:
                    with trio.CancelScope(shield=True, deadline=trio.current_time() + 0.5):
                        await stream.close()
            answer: SyncAnswer = decode(SyncAnswer, payload or b"")  # type: ignore[arg-type]
        except trio.TooSlowError as error:
            raise Unavailable(f"{peer} did not answer within {ASK_S:g} s") from error
        except PeerError as error:
            self._blame(peer, error.sentence)
            raise Unavailable(f"{peer} gave an answer that makes no sense") from error
        return answer

    async def _serve(self, stream: Stream) -> None:
        peer = stream.peer
        if self._at_once.get(peer, 0) >= MAX_OF_ONE or sum(self._at_once.values()) >= MAX_AT_ONCE:
            await stream.reset()
            return
        self._at_once[peer] = self._at_once.get(peer, 0) + 1
        try:
            with trio.move_on_after(ASK_S):
                payload = await Frames(stream, MAX_QUESTION_BYTES).receive()
                if payload is None:
                    return
                question: SyncQuestion = decode(SyncQuestion, payload, limit=MAX_QUESTION_BYTES)  # type: ignore[arg-type]
                answer = await self._answer(peer, question)
                await Frames(stream, MAX_RECORD_BYTES).send(encode(answer))
        except PeerError as error:
            self._blame(peer, error.sentence)
            await stream.reset()
        except Unavailable:
            return
        finally:
            self._at_once[peer] -= 1
            if not self._at_once[peer]:
                del self._at_once[peer]
