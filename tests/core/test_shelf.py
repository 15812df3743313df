"""Which record of a name counts, and what becomes of an owner's catalog."""

from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from primep2p.core import shelf
from primep2p.model.errors import CallError, PeerError
from primep2p.model.records import TensorSpec
from primep2p.model.shelf import MAX_CATALOG_BYTES, MAX_VERSIONS, Catalog, ModelRecord, ModelVersion, ShelfRecord
from primep2p.wire.cid import cid_of
from primep2p.wire.codec import encode
from primep2p.wire.envelope import Opened
from tests.wire.samples import VALUES, envelopes, identity

ME = identity(1).peer_id
CID = cid_of(b"params")


def version(label: str, **fields: object) -> ModelVersion:
    made = ModelVersion(label, CID, 80, bytes(32), "mlp", {"hidden": [4]}, 0.5)
    return replace(made, **fields)


def catalog(*labels: str, latest: str = "") -> Catalog:
    return Catalog(ME, "digits", latest or labels[-1], tuple(version(label) for label in labels))


def record(sequence: int, content: bytes = b"a") -> Opened[ModelRecord]:
    return envelopes().seal(ModelRecord("digits", sequence, cid_of(content)))


# ---- records


@given(st.lists(st.tuples(st.integers(1, 4), st.sampled_from([b"a", b"b", b"c"])), min_size=1, max_size=5))
def test_the_newest_record_counts_in_whatever_order_they_arrive(heard: list[tuple[int, bytes]]) -> None:
    records = [record(*each) for each in heard]
    ends = set()
    for order in permutations(records):
        known = None
        for each in order:
            known = shelf.choose(known, each).opened
        assert known is not None
        ends.add(known.hash)
    newest = max(records, key=lambda each: (each.record.sequence, each.hash))
    assert ends == {newest.hash}


def test_an_older_record_that_is_told_again_is_no_news() -> None:
    choice = shelf.choose(record(2), record(1))
    assert (choice.opened.record.sequence, choice.is_news, choice.contradicts) == (2, False, False)


def test_the_same_record_again_is_neither_news_nor_a_contradiction() -> None:
    choice = shelf.choose(record(2), record(2))
    assert not choice.is_news
    assert not choice.contradicts


def test_two_records_of_one_sequence_number_contradict_each_other_whichever_came_first() -> None:
    one, other = record(2, b"a"), record(2, b"b")
    choices = shelf.choose(one, other), shelf.choose(other, one)
    assert all(choice.contradicts for choice in choices)
    assert choices[0].opened == choices[1].opened
    assert sorted(choice.is_news for choice in choices) == [False, True]


def test_what_another_peer_signed_is_not_the_owners() -> None:
    forged = envelopes(number=2).seal(ModelRecord("digits", 9, CID))
    with pytest.raises(PeerError, match="on the shelf of"):
        shelf.open_model(forged, ME, "digits")
    index = envelopes(number=2).seal(ShelfRecord(9, ("digits",)))
    with pytest.raises(PeerError, match="on the shelf of"):
        shelf.open_shelf(index, ME)


def test_a_record_of_one_name_does_not_count_under_another() -> None:
    with pytest.raises(PeerError, match="under the name"):
        shelf.open_model(record(1), ME, "letters")


@pytest.mark.parametrize("names", [("b", "a-a"), ("m", "m")])
def test_the_names_on_a_shelf_are_sorted_and_each_there_once(names: tuple[str, ...]) -> None:
    with pytest.raises(PeerError, match="sorted"):
        shelf.open_shelf(envelopes().seal(ShelfRecord(1, names)), ME)


@given(st.integers(1, 2**50), st.floats(0, 1e10))
def test_a_next_sequence_number_is_above_the_last_and_not_below_the_clock(known: int, now_s: float) -> None:
    following = shelf.next_sequence(known, now_s)
    assert following > known
    assert following >= int(now_s * 1000)


# ---- catalogs


def test_a_catalog_is_read_as_it_was_written() -> None:
    written = catalog("1", "2", latest="1")
    assert shelf.open_catalog(encode(written), ME, "digits") == written


@pytest.mark.parametrize(
    "bad",
    [
        catalog("1", "1"),
        replace(catalog("1"), latest="2"),
        replace(catalog("1"), name="letters"),
        replace(catalog("1"), owner=identity(2).peer_id),
        replace(catalog("1"), versions=(version("1", run=bytes(32)),)),
        replace(catalog("1"), versions=()),
    ],
    ids=["twice", "latest", "name", "owner", "run without a header", "none"],
)
def test_a_catalog_that_contradicts_itself_or_its_name_is_refused(bad: Catalog) -> None:
    with pytest.raises(PeerError):
        shelf.open_catalog(encode(bad), ME, "digits")


@given(VALUES[Catalog])
def test_whatever_catalog_is_accepted_has_what_it_offers(sample: Catalog) -> None:
    try:
        opened = shelf.open_catalog(encode(sample), sample.owner, sample.name)
    except PeerError:
        return
    assert shelf.version_of(opened, "").label == opened.latest
    assert all(shelf.version_of(opened, each.label) == each for each in opened.versions)


def test_what_is_published_is_offered_and_the_others_stay() -> None:
    grown = shelf.published(catalog("1"), ME, "digits", version("2"))
    assert [each.label for each in grown.versions] == ["1", "2"]
    assert grown.latest == "2"


def test_publishing_what_is_there_only_offers_it_again() -> None:
    before = catalog("1", "2")
    assert shelf.published(before, ME, "digits", version("1", at_s=9.0)) == replace(before, latest="1")


def test_another_model_under_a_label_that_is_taken_is_refused() -> None:
    with pytest.raises(CallError, match="already") as caught:
        shelf.published(catalog("1"), ME, "digits", version("1", params=cid_of(b"other")))
    assert "--version" in caught.value.hint


def test_rolling_back_offers_the_older_one_and_keeps_the_newer() -> None:
    back = shelf.rolled_back(catalog("1", "2"), "1")
    assert back.latest == "1"
    assert len(back.versions) == 2
    with pytest.raises(CallError, match="no version"):
        shelf.rolled_back(back, "3")


def test_the_version_that_is_offered_is_not_removed_before_the_last() -> None:
    with pytest.raises(CallError, match="offered") as caught:
        shelf.without(catalog("1", "2"), "latest")
    assert "rollback digits --to 1" in caught.value.hint
    assert shelf.without(catalog("1"), "1") is None
    left = shelf.without(catalog("1", "2"), "1")
    assert left is not None
    assert [each.label for each in left.versions] == ["2"]


def test_a_model_has_so_many_versions_and_no_more() -> None:
    full = catalog(*(str(number) for number in range(MAX_VERSIONS)))
    with pytest.raises(CallError, match="all that a model may have") as caught:
        shelf.published(full, ME, "digits", version("one-more"))
    assert "model remove digits@0" in caught.value.hint


def test_a_catalog_that_nobody_would_read_is_not_written() -> None:
    large = version("1", trainer_config={"text": "x" * MAX_CATALOG_BYTES})
    with pytest.raises(CallError, match="takes"):
        shelf.published(None, ME, "digits", large)


def test_versions_that_come_from_no_round_are_counted() -> None:
    assert shelf.next_label(None) == "1"
    assert shelf.next_label(catalog("7", "v2", "12")) == "13"


@pytest.mark.parametrize("name", ["", "face", "0123", "A", "-a", "a b", "a/b", "x" * 41, "é", "a\n"])
def test_a_name_has_one_spelling_and_is_no_runs_id(name: str) -> None:
    with pytest.raises(CallError, match="no name of a model"):
        shelf.check_name(name)


@pytest.mark.parametrize("name", ["g", "a-", "face.1", "x" * 40, "deep_blue"])
def test_a_name_may_have_letters_digits_and_a_few_signs(name: str) -> None:
    assert shelf.check_name(name) == name


def test_every_name_has_a_key_that_the_directory_takes() -> None:
    from primep2p.net.host import check_key

    check_key(shelf.model_key("x" * 40))
    check_key(shelf.INDEX_KEY)


def test_a_schema_tells_names_shapes_and_order_apart() -> None:
    one, other = TensorSpec("a", "float32", (2, 3)), TensorSpec("b", "float32", (6,))
    schemas = [
        shelf.schema_of(tensors) for tensors in ([one, other], [other, one], [one], [replace(one, shape=(3, 2)), other])
    ]
    assert len(set(schemas)) == 4
