"""core/references: what a caller writes for a model, as text [L1]."""

from primep2p.core.references import ModelRef, parse
from primep2p.model.errors import CallError
from tests.fuzz.surface import Surface
from tests.wire.samples import identity

OWNER = identity(1).peer_id


def fuzz(data: bytes) -> None:
    """Read in one way, or refused."""
    try:
        meant = parse(data.decode(errors="replace"))
    except CallError:
        return
    if isinstance(meant, ModelRef):
        assert parse(str(meant)) == meant


def corpus() -> list[bytes]:
    texts = ("46553f", "46553f@12", f"46@1:{'ab' * 32}", "digits@latest", f"{OWNER}/digits@v1.2", f"{OWNER}/digits")
    return [text.encode() for text in texts]


SURFACE = Surface(fuzz, corpus)
