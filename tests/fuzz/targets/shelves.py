"""core/shelf: what the directory says a name means, and the catalog that a stranger serves for it [L1-L3]."""

from primep2p.core.shelf import choose, open_catalog, open_model, open_shelf, version_of
from primep2p.model.errors import PeerError
from primep2p.model.shelf import Catalog, ModelRecord, ShelfRecord
from primep2p.wire.codec import encode
from tests.fuzz.kit import of_types
from tests.fuzz.surface import Surface
from tests.wire.golden import NETWORK, PEERS, SEED_BYTE, signed, unsigned
from tests.wire.samples import envelopes

SEALER = envelopes(NETWORK, SEED_BYTE)
OWNER = SEALER.peer_id
KNOWN = SEALER.seal(ModelRecord("digits", 2**40, None))
CATALOG = unsigned()["catalog"]
assert isinstance(CATALOG, Catalog)


def fuzz(data: bytes) -> None:
    """What is not its owner's changes nothing; a catalog that is read offers what it has."""
    try:
        heard = open_model(SEALER.open(ModelRecord, data), OWNER, "digits")
    except PeerError:
        pass
    else:
        assert heard.signer == OWNER
        assert choose(KNOWN, heard).opened == choose(heard, KNOWN).opened
    try:
        shelf = open_shelf(SEALER.open(ShelfRecord, data), OWNER)
    except PeerError:
        pass
    else:
        assert shelf.signer == OWNER
    try:
        catalog = open_catalog(data, PEERS[0], "digits")
    except PeerError:
        return
    assert version_of(catalog, "latest").label == catalog.latest
    assert open_catalog(encode(catalog), PEERS[0], "digits") == catalog


def corpus() -> list[bytes]:
    sealed = [SEALER.seal(signed()[name]).raw for name in ("model", "withdrawn", "shelf")]
    return [*sealed, encode(CATALOG), *of_types((Catalog, ModelRecord, ShelfRecord))]


SURFACE = Surface(fuzz, corpus, signers={OWNER: SEALER})
