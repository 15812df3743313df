"""Every call of the control socket has all that a call must have: whoever adds one finds here what is missing."""

import inspect
import json
import re
import threading
import typing
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import numpy as np
import pytest
import trio
from safetensors.numpy import save_file

from primep2p.cli.derive import description
from primep2p.cli.docs import control_page
from primep2p.cli.main import app, main
from primep2p.control.calls import CALLS, decode_call
from primep2p.control.calls.call import Call, answer_type
from primep2p.control.calls.daemon import Discover
from primep2p.control.handlers.table import ANSWERS, STREAMS
from primep2p.control.openrpc import discover
from primep2p.control.place import link_path, socket_path
from primep2p.control.server import ControlServer
from primep2p.model.pipeline import FedAvg, Pipeline
from primep2p.model.views.events import AnyEvent, RunFinished
from primep2p.model.views.models import Prediction
from primep2p.model.views.runs import RunDetail
from primep2p.strict import plain
from tests.contract.samples import sample

EVERY = list(CALLS.values())
TESTS = Path(__file__).resolve().parents[1]

RUN = "ab" * 32

ARGUMENTS: dict[str, list[str]] = {
    "run.create": ["--from", RUN],
    "run.join": [RUN],
    "run.preview": [RUN],
    "model.publish": [RUN, "--as", "word"],
    "model.rollback": ["word", "--to", "word"],
    "model.predict": ["word", "--input", str(Path(__file__).with_name("question.csv"))],
    "job.params": ["word", "--out", "/dev/null"],
    "plan.add": [__file__],
    "job.upload": ["word", __file__, "--examples", "1", "--upload"],
    "job.submit": ["word", __file__, "--examples", "1"],
}
"""What a hand-written command is given, where it is not one word for each required field."""


@pytest.mark.parametrize("call", EVERY, ids=lambda call: call.name)
def test_it_says_what_it_does_what_it_may_and_which_command_sends_it(call):
    own = vars(call)
    assert own["access"] in ("read", "write")
    assert re.fullmatch(r"[a-z]+(\.[a-z_]+)+", own["name"])
    assert inspect.getdoc(call) != inspect.getdoc(Call), "a call needs a docstring"
    for field in msgspec.structs.fields(call):
        assert description(field), f"{field.name} needs Meta(description=…)"


@pytest.mark.parametrize("call", EVERY, ids=lambda call: call.name)
def test_one_function_answers_it_with_what_it_declares(call):
    table, other = (STREAMS, ANSWERS) if call.stream else (ANSWERS, STREAMS)
    assert call in table
    assert call not in other
    hints = typing.get_type_hints(table[call])
    assert hints["call"] is call
    if not call.stream:
        assert hints["return"] == answer_type(call)


def test_nothing_else_is_answered():
    assert {*ANSWERS, *STREAMS} == set(EVERY)


@pytest.mark.parametrize("call", EVERY, ids=lambda call: call.name)
def test_some_test_besides_this_one_names_it(call):
    others = [path for path in TESTS.rglob("test_*.py") if path != Path(__file__)]
    assert any(re.search(rf"\b{call.__name__}\b", path.read_text()) for path in others)


@pytest.mark.parametrize("call", EVERY, ids=lambda call: call.name)
def test_it_goes_to_json_and_back(call):
    asked = call(**{field.name: sample(field.type) for field in msgspec.structs.fields(call) if field.required})
    assert decode_call(call.name, msgspec.json.encode(plain(asked))) == asked
    answer = sample(answer_type(call))
    if not call.stream:
        assert msgspec.json.decode(msgspec.json.encode(answer), type=answer_type(call)) == answer


def test_the_page_and_the_document_for_programs_have_them_all():
    page, document = control_page(), discover()
    assert [method["name"] for method in document["methods"]] == list(CALLS)
    for call in EVERY:
        assert f"### {call.name}\n" in page
    text = json.dumps(document)
    for name in re.findall(r'"#/components/schemas/(\w+)"', text):
        assert document["components"]["schemas"][name]["properties"] is not None


class Recorder:
    """Answers every call with a sample, and keeps what it was asked."""

    def __init__(self, home: Path) -> None:
        self.asked: list[Call[object]] = []
        self.answers = home / "answers.safetensors"
        """What a model says."""
        save_file({"y": np.zeros(2, np.float32)}, self.answers)

    async def answer(self, call: Call[object]) -> object:
        self.asked.append(call)
        if isinstance(call, Discover):
            return discover()
        answer = sample(answer_type(type(call)))
        if isinstance(answer, RunDetail):
            return msgspec.structs.replace(answer, run=RUN, phase="finished", pipeline=plain(Pipeline(FedAvg())))
        if isinstance(answer, Prediction):
            return msgspec.structs.replace(answer, path=str(self.answers))
        return answer

    def watch(self, call: Call[object]) -> AsyncIterator[AnyEvent]:
        self.asked.append(call)
        return self._events()

    async def _events(self) -> AsyncIterator[AnyEvent]:
        yield RunFinished(run=RUN, round=7)


@pytest.fixture(scope="module")
def recorder(tmp_path_factory):
    """A control socket that answers everything, served from a thread of its own; and its home."""
    home = tmp_path_factory.mktemp("home")
    recorder, ready, end = Recorder(home), threading.Event(), trio.Event()
    tokens: list[trio.lowlevel.TrioToken] = []

    async def serve() -> None:
        path = socket_path(home, env={"XDG_RUNTIME_DIR": str(home)})
        tokens.append(trio.lowlevel.current_trio_token())
        async with trio.open_nursery() as nursery:
            await nursery.start(ControlServer(path, recorder, link=link_path(home)).run)
            ready.set()
            await end.wait()
            nursery.cancel_scope.cancel()

    thread = threading.Thread(target=trio.run, args=(serve,))
    thread.start()
    assert ready.wait(30)
    yield recorder, home
    tokens[0].run_sync_soon(end.set)
    thread.join(30)


@pytest.fixture
def command(recorder, capsys):
    """Runs the command of a call: what was asked by it, and what it printed."""
    served, home = recorder

    def run(call: type[Call[object]], *options: str) -> tuple[list[Call[object]], str]:
        served.asked.clear()
        words = [str(sample(field.type)) for field in msgspec.structs.fields(call) if field.required]
        given = ARGUMENTS.get(call.name, words)
        with pytest.raises(SystemExit) as ended:
            main([*call.command.split(), *given, *options, "--home", str(home)])
        out, err = capsys.readouterr()
        assert (ended.value.code, err if ended.value.code else "") == (0, "")
        return list(served.asked), out

    return run


def _stops(call: type[Call[object]]) -> bool:
    """Whose command waits for a process that is this one."""
    return call.name == "daemon.stop"


@pytest.mark.parametrize("call", [each for each in EVERY if not _stops(each)], ids=lambda call: call.name)
def test_its_command_has_help_asks_it_and_shows_the_answer_to_people_and_programs(call, command):
    words = call.command.split()
    found = app
    for word in words:
        found = found[word]
    assert (found.help or inspect.getdoc(found.default_command) or "").strip()
    asked, shown = command(call)
    assert call in [type(each) for each in asked]
    assert shown.strip(), "what it answers must be shown"
    if call.access == "read":
        asked, told = command(call, "--json")
        assert call in [type(each) for each in asked]
        for line in told.splitlines():
            msgspec.json.decode(line, type=answer_type(call))
        assert told.strip()
        assert told != shown
