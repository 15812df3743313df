import json

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from primep2p.control.calls import CALLS, decode_call
from primep2p.control.calls.call import answer_type
from primep2p.control.handlers.references import parse_pin
from primep2p.control.jsonrpc import LineBuffer, Refusal, Request, TooLong, decode_request
from primep2p.model.errors import CallError
from primep2p.strict import MOST_FAULTS, Fault, build, plain

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)
RUN, HASH = "ab" * 32, "cd" * 32


@given(st.binary(max_size=300))
@example(b"[" * 100_000)
@example(b'{"jsonrpc":"2.0","id":1e400,"method":"x"}')
@example(b'{"jsonrpc":"2.0","id":1,"method":"\\ud800"}')
def test_any_bytes_are_a_request_or_a_refusal(line):
    assert isinstance(decode_request(line), Request | Refusal)


@given(st.fixed_dictionaries({}, optional=dict.fromkeys(("jsonrpc", "id", "method", "params", "x"), JSON)))
def test_any_object_is_a_request_or_a_refusal(message):
    assert isinstance(decode_request(json.dumps(message).encode()), Request | Refusal)


@given(st.sampled_from([*CALLS, "no.such"]), JSON | st.dictionaries(st.sampled_from(["run", "pin", "config"]), JSON))
@example("run.show", {"run": 2**70})
@example("model.publish", {"source": "/x", "to": "x", "metrics": {"loss": 2**70}})
def test_any_params_are_a_call_or_a_call_error(method, params):
    try:
        call = decode_call(method, json.dumps(params).encode())
    except CallError:
        return
    assert call.name == method


@pytest.mark.parametrize("value", [2**63, -(2**63) - 1, 10**300, [1, 2**63]])
def test_a_trainers_setting_that_no_record_has_room_for_is_refused(value):
    params = {"source": "/x", "to": "x", "trainer": "t", "trainer_config": {"seed": value}}
    with pytest.raises(CallError, match=r"params\.trainer_config\.seed must fit into 64 bits"):
        decode_call("model.publish", json.dumps(params).encode())


@pytest.mark.parametrize(
    ("method", "params", "sentence"),
    [
        ("run.list", {f"key{i}": 0 for i in range(20_000)}, "params.key0 is not known"),
        (
            "job.submit",
            {"job": "x", "examples": 1, "metrics": {f"m{i}": "" for i in range(20_000)}},
            "at most 32 entries",
        ),
        ("run.create", {"config": {"trainer_config": {f"k{i}": None for i in range(20_000)}}}, "name is missing"),
    ],
)
def test_what_is_wrong_in_many_places_is_told_of_some(method, params, sentence):
    with pytest.raises(CallError, match=sentence) as refused:
        decode_call(method, json.dumps(params).encode())
    fault = refused.value.__cause__
    assert isinstance(fault, Fault)
    assert len(fault.all) <= 2 * MOST_FAULTS


@given(st.text(max_size=100), st.text(max_size=100))
@example(RUN + "@", "")
@example(RUN, "9" * 5000 + ":" + HASH)
@example(RUN, f"٣:{HASH}")
def test_any_pin_is_read_or_refused(run, pin):
    try:
        id_, parsed = parse_pin(run, pin)
    except CallError:
        return
    assert len(id_) == 64
    assert parsed is None or len(parsed[1]) == 32


def test_a_pin_may_stand_behind_the_id_or_apart():
    assert parse_pin(RUN) == (RUN, None)
    assert parse_pin(f"{RUN}@3:{HASH}") == parse_pin(RUN, f"3:{HASH}") == (RUN, (3, bytes.fromhex(HASH)))
    with pytest.raises(CallError, match="two different pins"):
        parse_pin(f"{RUN}@3:{HASH}", f"4:{HASH}")


@given(st.lists(st.binary(min_size=1, max_size=20).map(lambda line: line.replace(b"\n", b"x"))), st.data())
def test_lines_come_out_whole_however_they_are_cut(lines, data):
    sent = b"".join(line + b"\n" for line in lines)
    buffer, out = LineBuffer(20), []
    while sent:
        size = data.draw(st.integers(1, len(sent)))
        out += buffer.feed(sent[:size])
        sent = sent[size:]
    assert out == [line for line in lines if line.strip()]


def test_a_line_beyond_the_limit_is_noticed_before_it_ends():
    with pytest.raises(TooLong):
        LineBuffer(10).feed(b"x" * 11)


def test_every_call_says_what_it_is():
    for call in CALLS.values():
        assert call.__doc__, call.name
        assert answer_type(call) is not None


def test_tables_of_all_fields_build_the_same_call_again():
    from primep2p.control.calls.runs import RunCreate
    from primep2p.run_config import RunConfig

    call = RunCreate(config=RunConfig(name="x", trainer="mlp", trainer_config={"layers": [1, 2]}))
    assert build(RunCreate, json.loads(json.dumps(plain(call)))) == call


def test_a_fault_names_the_path_of_the_element():
    from primep2p.run_config import RunConfig

    with pytest.raises(Fault, match=r"^admission.peers\[1\] must be a string, not an integer$"):
        build(RunConfig, {"name": "x", "trainer": "y", "admission": {"peers": ["12D3KooW" + "A" * 44, 1]}})
