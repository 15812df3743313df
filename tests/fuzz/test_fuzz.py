"""Each target for a moment: seeds, what was found once, claims of more than there is, and what is valid, changed."""

import subprocess
import sys
import time
import tracemalloc
from pathlib import Path
from random import Random

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from primep2p.model.errors import PeerError
from primep2p.wire.codec import decode, encode
from tests.fuzz.__main__ import ROOT, summary
from tests.fuzz.declared import samples
from tests.fuzz.mutation import joined, mutated, parts
from tests.fuzz.surface import Shape, load, names
from tests.wire.samples import EVERY_TYPE, MESSAGES, RECORDS, VALUES, envelopes

NAMES = names()

CLAIMS = (
    b"\xdd\xff\xff\xff\xff",  # an array
    b"\xc6\xff\xff\xff\xff",  # bytes
    b"\xdb\xff\xff\xff\xff",  # text
    b"\xdf\xff\xff\xff\xff",  # a table
    b"\x91" * 50_000 + b"\xc0",
    b"[" * 50_000 + b"\n",
    b'{"jsonrpc":"2.0","method":"run.join","id":1,"params":' + b"[" * 50_000 + b"\n",
    (2**63).to_bytes(8, "little") + b"{}",
    b"\xff" * 16,
    b"",
)
"""Of more bytes, elements or depth than memory holds, where a few bytes are."""

MOST_BYTES = 32 * 2**20
"""While such an input is read: its 50,000 bytes are copied here and there, and nothing is made for what they claim."""


MOST_S = 15.0
"""Of the processor's time for all of them, memory being watched, which costs most of it: 3 s at the most elsewhere."""


@pytest.mark.parametrize("name", NAMES)
def test_a_target_holds_for_its_seeds_and_for_what_was_found_once(name: str) -> None:
    surface = load(name)
    assert surface.corpus(), "where would mutations begin?"
    for raw in (*surface.corpus(), *surface.examples):
        surface.fuzz(raw)


@pytest.mark.parametrize("name", NAMES)
def test_no_claim_of_length_or_depth_costs_memory_or_time(name: str) -> None:
    surface = load(name)
    surface.fuzz(b"")  # what it makes once is no claim's fault
    shape = surface.shape
    began_s = time.process_time()
    tracemalloc.start()
    try:
        for claim in CLAIMS:
            surface.fuzz(claim)
            surface.fuzz(joined([*parts(surface.corpus()[0], shape)[:1], bytes(shape.prefix_bytes) + claim], shape))
        assert tracemalloc.get_traced_memory()[1] < MOST_BYTES
        assert time.process_time() - began_s < MOST_S
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("name", NAMES)
def test_a_target_holds_for_valid_inputs_that_were_changed(name: str) -> None:
    surface = load(name)
    seeds = surface.corpus()

    @settings(
        max_examples=surface.examples_per_test,
        database=None,
        phases=[Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
    )
    @given(st.sampled_from(seeds), st.randoms(use_true_random=False))
    def holds(seed: bytes, chance) -> None:  # type: ignore[no-untyped-def]
        surface.fuzz(mutated(seed, chance, surface, seeds))

    holds()


# ---- the tools themselves


@pytest.mark.parametrize("type_", VALUES, ids=lambda type_: type_.__name__)
def test_what_a_declaration_alone_makes_is_a_value_of_it(type_: type) -> None:
    for sample in samples(type_):
        assert decode(type_, encode(sample)) == sample


def test_every_type_that_travels_is_among_the_seeds() -> None:
    seeds = load("records").corpus()
    assert {*RECORDS, *MESSAGES} <= set(EVERY_TYPE)
    for type_ in (*RECORDS, *MESSAGES):
        assert all(encode(sample) in seeds for sample in samples(type_))


def test_parts_joined_again_are_the_input() -> None:
    framed = b"\0\0\0\1a\0\0\0\0\0\0\0\2bc"
    assert parts(framed, Shape(framed=True)) == [b"a", b"", b"bc"]
    for raw, shape in ((framed, Shape(framed=True)), (b"a\n\nb\n", Shape(json=True)), (b"abc", Shape())):
        assert joined(parts(raw, shape), shape) == raw


def test_what_a_liar_changes_it_signs_again() -> None:
    """Else nothing behind a signature check would ever be tried."""
    surface, opened = load("envelopes"), 0
    seeds = surface.corpus()
    for number in range(600):
        raw = mutated(seeds[number % len(seeds)], Random(number), surface, seeds)
        try:
            opened += envelopes().open_any(raw).raw not in seeds
        except PeerError:
            continue
    assert opened > 10


def test_make_fuzz_runs_every_target() -> None:
    """All that is in `targets`, in one line each, and none that is not there."""
    assert sorted(path.stem for path in (ROOT / "tests/fuzz/targets").glob("*.py") if path.stem != "__init__") == NAMES
    assert "-m tests.fuzz --seconds" in (ROOT / "Makefile").read_text()


def test_a_saved_input_runs_again_by_itself(tmp_path: Path) -> None:
    path = tmp_path / "input"
    path.write_bytes(load("records").corpus()[0])
    command = [sys.executable, "-m", "tests.fuzz", "records", "--input", str(path)]
    assert subprocess.run(command, cwd=ROOT, check=False, timeout=100).returncode == 0


def test_the_line_of_a_target_says_what_libfuzzer_said() -> None:
    said = "#9\tINITED cov: 40 ft: 50\n#77\tNEW    cov: 52 ft: 60\nstat::number_of_executed_units: 1234\n"
    assert summary("votes", said, 2.0).split() == ["votes", "1,234", "runs", "52", "covered,", "12", "new", "2.0", "s"]
