import json
import threading
from collections.abc import Iterator
from datetime import datetime

import pytest
import trio

from primep2p.cli.daemon.logtail import follow, tail
from primep2p.cli.exits import EXIT_CODES
from primep2p.cli.main import main
from primep2p.cli.render.previews import show_preview, size
from primep2p.cli.render.printing import duration
from primep2p.control.calls.runs import RunPreview
from primep2p.control.client import BlockingClient
from primep2p.control.handlers import NodeHandlers
from primep2p.control.place import link_path, socket_path
from primep2p.control.server import ControlServer
from primep2p.model.errors import CallError, PrimeError
from primep2p.model.pipeline import Clip, Krum, Pipeline, Sgd
from primep2p.model.plans import trainer_of_plan
from primep2p.model.views.events import Accused, RoundCertified, RunFinished, StepChanged, TrainingReported
from primep2p.model.views.node import OTHER_KERNELS
from primep2p.model.views.runs import EvidenceView, ExpelledView, InviteUseView, RiskView
from primep2p.services.runs.origins import Start
from primep2p.strict import plain
from primep2p.wire.token import write_token
from tests.control.fake_node import PEER, RUN, TOKEN, FakeNode, member, preview
from tests.control.fake_plans import PLAN


def certified(number: int, void: str = "") -> RoundCertified:
    return RoundCertified(
        run=RUN,
        round=number,
        header="ef" * 32,
        params="bafkrei",
        participants=[PEER] * 3,
        staleness=[0] * 3,
        signers=[PEER] * 4,
        roster=[PEER] * 4,
        metrics={} if void else {"loss": 0.25, "accuracy": 0.912345},
        void=void,
        view=0,
        seconds=1.25,
    )


class Daemon:
    """A fake node served from a thread of its own, for commands in this one."""

    def __init__(self, home) -> None:
        self.home = home
        self.script: list[object] = []
        """Events for whoever watches; then the run is finished."""
        self._ready = threading.Event()
        self._thread = threading.Thread(target=trio.run, args=(self._main,))

    async def _main(self) -> None:
        self.node = FakeNode(self.home)
        self.token = trio.lowlevel.current_trio_token()
        path = socket_path(self.home, env={"XDG_RUNTIME_DIR": str(self.home)})
        server = ControlServer(path, NodeHandlers(self.node), link=link_path(self.home))
        async with trio.open_nursery() as nursery:
            await nursery.start(server.run)
            nursery.start_soon(self._play)
            self._ready.set()
            await self.node.stopped.wait()
            await server.idle()
            nursery.cancel_scope.cancel()

    async def _play(self) -> None:
        await self.node.events.watching.wait()
        self.node.emit(*self.script)

    def start(self) -> None:
        self._thread.start()
        assert self._ready.wait(10)

    def stop(self) -> None:
        self.token.run_sync_soon(self.node.stop)
        self._thread.join(10)


@pytest.fixture
def daemon(tmp_path) -> Iterator[Daemon]:
    daemon = Daemon(tmp_path)
    daemon.start()
    yield daemon
    daemon.stop()


@pytest.fixture
def command(daemon, capsys):
    """Runs a command: its exit code, stdout, stderr."""

    def run(*arguments: str) -> tuple[object, str, str]:
        with pytest.raises(SystemExit) as exit_:
            main([*arguments, "--home", str(daemon.home)])
        out, err = capsys.readouterr()
        return exit_.value.code, out, err

    return run


@pytest.mark.parametrize("name", [["status"], ["daemon", "status"]])
def test_status_is_for_people_and_with_json_one_line_for_programs(command, name):
    code, out, _ = command(*name)
    assert code == 0
    assert f"peer      {PEER}" in out
    assert "up 1 min 1 s, 50 MiB" in out
    assert "computes  with numpy, 2 threads" in out
    code, out, _ = command(*name, "--json")
    assert json.loads(out)["peer_id"] == PEER
    assert out.count("\n") == 1


@pytest.mark.parametrize("name", [["run", "list"], ["run", "show", "ab"], ["peers"]])
def test_every_read_has_json(command, name):
    code, out, _ = command(*name)
    assert code == 0
    assert out
    code, out, _ = command(*name, "--json")
    assert (code, out.count("\n")) == (0, 1)
    json.loads(out)


def test_a_table_in_a_pipe_keeps_whole_ids(command):
    assert PEER in command("peers")[1]
    assert PEER in command("run", "show", "ab")[1]


def test_show_says_what_the_run_survives_and_whom_it_waits_for(command):
    out = command("run", "show", "ab")[1]
    assert "round     3, view 0, collect, last moved 2.5 s ago" in out
    assert "admission open\n" in out
    assert "quorum    3 of 1: survives 1 silent member, 1 liar" in out
    assert ["2/3", "here,", "awaited"] in [line.split()[-3:] for line in out.splitlines()]
    assert not [line for line in out.splitlines() if line.startswith(("risk", "from", "outside", "expelled", "evid"))]
    assert "file      /x.safetensors" in out
    since = datetime.fromtimestamp(1.5)
    assert f"waits for {PEER}, since {since:%Y-%m-%d %H:%M:%S}\n" in out


def test_show_says_what_a_draw_risks_who_was_expelled_and_what_is_known_of_liars(command, daemon):
    others = [member(letter + PEER[1:], votes=letter != "x", trains=letter == "x", awaited=False) for letter in "xyz"]
    daemon.node.more = {
        "risks": [
            RiskView(bad_share=0.1, rounds=1000, fork=0.0, stall=0.00001),
            RiskView(bad_share=0.2, rounds=1000, fork=0.0123, stall=0.5),
        ],
        "expelled": [
            ExpelledView(peer="x" + PEER, reason="banned", round=7),
            ExpelledView(peer="y" + PEER, reason="", round=-1),
        ],
        "evidence": [EvidenceView(peer="z" + PEER, slot="two prevotes of round 5, view 0")],
        "invites": [InviteUseView(invite="cd" * 32, until=9, used=2)],
        "admission": "invite",
        "inviters": [PEER],
        "origin": f"{RUN}@7",
        "obstacle": "the invite is used up; ask for another one",
    }
    daemon.node.also = others
    out = command("run", "show", "ab")[1]
    assert "quorum    3 of 1 drawn from 4 members: survives 1 silent member, 1 liar\n" in out
    assert "risk      with 10% bad, in 1,000 rounds: a fork cannot happen, a stall under 0.01%\n" in out
    assert "risk      with 20% bad, in 1,000 rounds: a fork 1.2%, a stall 50%\n" in out
    assert f"expelled  x{PEER}, banned in round 7\nexpelled  y{PEER}, some time ago\n" in out
    assert f"evidence  z{PEER} signed two prevotes of round 5, view 0\n" in out
    assert f"admission invite, by {PEER}\ninvite    {'cd' * 6}: 2 members joined by it, good up to round 9\n" in out
    assert f"from      {RUN}@7\n" in out
    assert "outside   the invite is used up; ask for another one\n" in out
    rows = {line.split()[0]: line.split() for line in out.splitlines() if PEER[1:] in line and "/3" in line}
    assert rows["x" + PEER[1:]][-2:] == ["trains", "here"]
    assert rows["y" + PEER[1:]][-2:] == ["votes", "here"]


def test_create_takes_a_file_and_says_how_others_join(command, daemon, tmp_path):
    (tmp_path / "run.toml").write_text('name = "digits"\ntrainer = "mlp"\n[policy]\nrounds = 3')
    code, out, _ = command("run", "create", str(tmp_path / "run.toml"))
    assert code == 0
    assert f"primep2p run join {RUN}\nwatch it with: primep2p run watch {RUN[:12]} --home {daemon.home}\n" in out
    assert daemon.node.created[0].policy.rounds == 3


def test_create_and_join_say_what_the_owner_may_have_forgotten(command, daemon, tmp_path):
    daemon.node.note = "trainer.data of node.toml is not set"
    (tmp_path / "run.toml").write_text('name = "digits"\ntrainer = "mlp"')
    for words in (["run", "create", str(tmp_path / "run.toml")], ["run", "join", RUN]):
        code, out, err = command(*words)
        assert code == 0
        assert "note: trainer.data of node.toml is not set\n" in err
        assert "note" not in out
        assert json.loads(command(*words, "--json")[1])["note"] == daemon.node.note


def test_create_sends_the_plan_that_the_file_names(command, daemon, tmp_path):
    (tmp_path / "run.toml").write_text('name = "digits"\nplan = "digits.plan"')
    assert command("run", "create", str(tmp_path / "run.toml"))[0] == 2, "there is no such file"
    (tmp_path / "digits.plan").write_bytes(b"a plan")
    assert command("run", "create", str(tmp_path / "run.toml"))[0] == 0
    assert daemon.node.plans.added == [b"a plan"]
    assert (daemon.node.created[0].trainer, daemon.node.created[0].plan) == (trainer_of_plan(PLAN.cid), "")


def test_a_plan_that_is_added_is_shown_with_how_a_run_names_it(command, tmp_path):
    (tmp_path / "digits.plan").write_bytes(b"a plan")
    code, out, _ = command("plan", "add", str(tmp_path / "digits.plan"))
    assert code == 0
    assert f'in a run.toml: trainer = "{trainer_of_plan(PLAN.cid)}"' in out
    assert f"its owner {PEER} is not among plans.trust in node.toml" in out


def test_a_pipeline_goes_from_the_file_to_the_node_and_from_there_to_whoever_asks(command, daemon, tmp_path):
    text = 'name = "digits"\ntrainer = "mlp"\n[policy]\nfirst_members = 5\n[pipeline]\n'
    (tmp_path / "run.toml").write_text(text + 'rule = "krum"\npre = [{ name = "clip", norm = 2 }]\nouter = "sgd"')
    assert command("run", "create", str(tmp_path / "run.toml"))[0] == 0
    [created] = daemon.node.created
    assert created.pipeline == Pipeline(Krum(1), (Clip(2.0),), Sgd())
    daemon.node.more = {"pipeline": plain(created.pipeline)}
    shown = "clip (norm 2.0), then krum (f 1), then sgd (learning_rate 1.0, momentum 0.0, nesterov false)"
    assert f"pipeline  {shown}; deltas travel as float32\n" in command("run", "show", "ab")[1]
    assert json.loads(command("run", "show", "ab", "--json")[1])["pipeline"]["rule"] == {"name": "krum", "f": 1}


def test_show_and_status_say_who_computes_other_bytes(command, daemon):
    assert "other kernels" not in command("run", "show", "ab")[1]
    assert "kernels" not in command("status")[1]
    daemon.node.also = [member("12D3KooW" + "B" * 44, votes=False, same_kernels=False)]
    daemon.node.same_kernels = False
    assert "trains, other kernels" in command("run", "show", "ab")[1]
    assert f"kernels   {OTHER_KERNELS}\n" in command("status")[1]


def test_join_takes_a_pin_behind_the_id(command, daemon):
    assert command("run", "join", f"{RUN}@7:{'cd' * 32}")[0] == 0
    assert daemon.node.joined == [(RUN, (7, bytes.fromhex("cd" * 32)), None)]


def test_join_takes_an_invite_in_place_of_the_id_or_beside_it(command, daemon):
    text = write_token(TOKEN)
    assert command("run", "join", text)[0] == 0
    assert command("run", "join", RUN, "--invite", text)[0] == 0
    assert daemon.node.joined == [(RUN, None, TOKEN)] * 2
    code, out, err = command("run", "join", text[:-5])
    assert (code, out) == (4, "")
    assert err.startswith("primep2p: the invite is not whole: ")
    assert text[30:60] not in err


def test_invite_prints_the_token_alone_and_what_it_is_good_for_beside_it(command):
    code, out, err = command("run", "invite", "ab", "--uses", "2", "--rounds", "9")
    assert (code, out) == (0, write_token(TOKEN) + "\n")
    assert err == "good for 2 new members, up to round 11; it is a secret, and is used with: primep2p run join INVITE\n"
    answer = json.loads(command("run", "invite", "ab", "--json")[1])
    assert answer == {"run": RUN, "token": write_token(TOKEN), "uses": 1, "until": 102}


def test_ban_says_what_comes_next(command, daemon):
    code, out, _ = command("run", "ban", "ab", PEER)
    assert code == 0
    assert out == (
        f"{PEER} is banned from digits ({'ab' * 6}): a coming checkpoint expels it\n"
        f"see it with: primep2p run show {'ab' * 6} --home {daemon.home}\n"
    )
    assert daemon.node.banned == [("ab", PEER)]
    assert json.loads(command("run", "ban", "ab", PEER, "--json")[1])["run"] == RUN


def test_create_starts_from_a_checkpoint_with_a_file_or_without(command, daemon, tmp_path):
    (tmp_path / "run.toml").write_text('name = "again"\ntrainer = "mlp"')
    daemon.node.more = {"origin": f"{RUN}@7"}
    code, out, _ = command("run", "create", "--from", "ab@7")
    assert code == 0
    assert out.startswith(f"run {RUN}\nfrom {RUN}@7\ntraining begins when 4 members are here; ")
    assert command("run", "create", str(tmp_path / "run.toml"), "--from", "ab")[0] == 0
    assert [start for start, _ in daemon.node.continued] == [Start("ab", 7), Start("ab")]
    assert [config and config.name for _, config in daemon.node.continued] == [None, "again"]
    code, _, err = command("run", "create")
    assert code == 4
    assert err.startswith("primep2p: a run needs a file with its settings\n")


def test_create_of_a_run_by_invite_says_how_to_invite(command, daemon, tmp_path):
    (tmp_path / "run.toml").write_text('name = "digits"\ntrainer = "mlp"\n[admission]\nmode = "invite"')
    daemon.node.more = {"admission": "invite", "inviters": [PEER]}
    out = command("run", "create", str(tmp_path / "run.toml"))[1]
    assert f"  primep2p run invite {'ab' * 6} --home {daemon.home}\n" in out
    assert "run join" not in out


def test_the_callers_mistake_exits_with_4_and_a_hint_that_names_this_node(command, daemon):
    code, out, err = command("run", "show", "zz")
    assert (code, out) == (4, "")
    assert err == f"primep2p: there is no run zz\n  see: primep2p run list --home {daemon.home}\n"


def test_a_failing_trainer_exits_with_5_and_its_last_words(command, tmp_path):
    (tmp_path / "run.toml").write_text('name = "x"\ntrainer = "broken"')
    code, _, err = command("run", "create", str(tmp_path / "run.toml"))
    assert code == 5
    assert err == "primep2p: the trainer raised\n  | Traceback: no\n  look at it\n"


def test_a_bug_in_the_daemon_exits_with_1(command, tmp_path):
    (tmp_path / "run.toml").write_text('name = "x"\ntrainer = "bug"')
    code, _, err = command("run", "create", str(tmp_path / "run.toml"))
    assert code == 1
    assert err.startswith("primep2p: internal error: ZeroDivisionError\n")


@pytest.mark.parametrize("arguments", [["run", "shw"], ["run", "show"], ["status", "--jsn"], ["nonsense"]])
def test_a_command_line_that_makes_no_sense_exits_with_2(capsys, arguments):
    with pytest.raises(SystemExit) as exit_:
        main(arguments)
    assert exit_.value.code == 2
    assert capsys.readouterr().err.startswith("primep2p: ")


def test_watch_prints_a_line_a_round_and_ends_with_the_run(command, daemon):
    daemon.script = [
        StepChanged(run=RUN, round=1, view=0, step="collect"),
        certified(1),
        Accused(run=RUN, peer=PEER, reason="two votes"),
        certified(2, void="too few updates"),
        RunFinished(run=RUN, round=2),
    ]
    code, out, _ = command("run", "watch")
    assert code == 0
    heading, first, accused, second, end, file = out.splitlines()
    assert heading.split() == ["round", "trained", "signed", "seconds", "head", "metrics"]
    assert first.split() == ["1", "3/4", "4/4", "1.25", "ef" * 6, "accuracy", "0.9123", "loss", "0.25"]
    assert accused == f"  {PEER} is accused: two votes"
    assert second.endswith("void: too few updates")
    assert end == "finished after round 2"
    assert file == "file      /x.safetensors"


def test_watch_of_a_node_in_no_run_says_so(command, daemon):
    daemon.node.known = []
    code, out, err = command("run", "watch")
    assert (code, out) == (4, "")
    create = f"primep2p run create run.toml --home {daemon.home}"
    assert err == f"primep2p: this node is in no run\n  create one with: {create}\n"
    assert command("run", "list")[1] == f"no runs yet; start one with: {create}\n"


def test_watch_asks_which_of_several_runs_is_meant(command, daemon):
    daemon.node.known = [RUN, "cd" * 32]
    code, _, err = command("run", "watch")
    assert code == 4
    assert err == (
        f"primep2p: this node is in 2 runs; which one: {'ab' * 6}, {'cd' * 6}?\n"
        f"  see: primep2p run list --home {daemon.home}\n"
    )


def test_watch_of_a_finished_run_ends_at_once(command, daemon):
    daemon.node.phase = "finished"
    assert command("run", "watch")[:2] == (0, "finished after round 2\nfile      /x.safetensors\n")
    assert json.loads(command("run", "watch", "--json")[1])["event"] == "run-finished"


def test_watch_of_a_gathering_run_says_how_many_are_here(command, daemon):
    daemon.node.phase, daemon.node.shelf.file = "gathering", None
    daemon.script = [certified(0), RunFinished(run=RUN, round=0)]
    out = command("run", "watch")[1].splitlines()
    assert out[0] == "gathering: 1 of 4 members is here"
    assert out[-1] == "finished after round 0"


def test_show_of_a_gathering_run_says_how_many_are_missing(command, daemon):
    daemon.node.phase, daemon.node.shelf.file = "gathering", None
    out = command("run", "show", "ab")[1]
    assert "waits for 3 more members (1 of 4 is here)\n" in out
    assert not [line for line in out.splitlines() if line.startswith(("quorum", "file"))]


def test_join_says_what_happens_now_and_how_to_see_it(command, daemon):
    watch = f"watch it with: primep2p run watch {'ab' * 6} --home {daemon.home}\n"
    name = f"digits ({'ab' * 6})"
    assert command("run", "join", RUN)[1] == f"joined {name}: running, round 3, 1 member\n{watch}"
    daemon.node.phase = "gathering"
    assert command("run", "join", RUN)[1] == f"joined {name}: gathering, 1 of 4 members is here\n{watch}"
    daemon.node.phase = "finished"
    told = f"{name} is finished: this node now has its model\nfile      /x.safetensors\n"
    assert command("run", "join", RUN)[1] == told
    daemon.node.members = ()
    assert "this node now has its model, and is no member\n" in command("run", "join", RUN)[1]
    daemon.node.shelf.file = None
    told = f"{name} is finished: this node fetches its model, and is no member\n"
    told += f"see where it is with: primep2p run show {'ab' * 6} --home {daemon.home}\n"
    assert command("run", "join", RUN)[1] == told


COSTS = """\
costs     of digits: round 7, 3 members; who may join: open
a round   244 KiB down and 244 KiB up, where 4 train and 4 vote of 4
          a delta is 75 KiB, and the model 75 KiB
in all    3.1 MiB down and 3.1 MiB up in 13 rounds
memory    at most 28 MiB to aggregate, and what the trainer takes
disk      1.17 MiB of models and deltas, and 2.93 KiB more in each round
"""


def test_what_a_run_will_cost_is_said_before_it_is_joined(command, daemon):
    joined = command("run", "join", RUN)
    assert joined[2] == COSTS
    assert joined[1].startswith("joined digits ")
    daemon.node.joined.clear()
    assert command("run", "join", f"{RUN}@2:{'cd' * 32}", "--dry-run") == (0, COSTS, "")
    assert command("run", "preview", RUN) == (0, COSTS, "")
    assert json.loads(command("run", "join", RUN, "--dry-run", "--json")[1])["cost"]["down_bytes"] == 250_000
    assert daemon.node.joined == []
    assert command("run", "join", RUN, "--json")[2] == ""


def test_what_a_run_will_cost_is_said_before_it_is_created(command, daemon, tmp_path):
    (tmp_path / "run.toml").write_text('name = "again"\ntrainer = "mlp"')
    code, out, err = command("run", "create", str(tmp_path / "run.toml"))
    assert (code, out.splitlines()[0]) == (0, f"run {RUN}")
    assert err.startswith("costs     of again: it begins with 4 members; who may join: open\n")
    assert daemon.node.created[0].params == "/made"  # by the preview: the trainer is not asked twice
    daemon.node.created.clear()
    code, out, _ = command("run", "create", str(tmp_path / "run.toml"), "--dry-run")
    assert (code, out) == (0, err)
    assert daemon.node.created == []


def test_a_preview_says_what_keeps_this_node_out_and_without_a_vote(capsys):
    show_preview(preview(run=RUN, votes=False, obstacle="by invite only", rounds=0))
    out = capsys.readouterr().out
    assert "it has not begun" in out
    assert "vote      none: " in out
    assert "outside   by invite only\n" in out
    assert "in all" not in out


def test_a_preview_of_nothing_is_refused(daemon):
    with BlockingClient(daemon.home) as client, pytest.raises(CallError, match="there is no run to preview"):
        client.call(RunPreview())


def test_sizes_have_three_digits():
    sizes = [0, 999, 1000, 76_840, 250_000, 2**20, 123 * 2**20, 5 * 2**40]
    assert [size(each) for each in sizes] == [
        "0 B", "999 B", "0.977 KiB", "75 KiB", "244 KiB", "1 MiB", "123 MiB", "5 TiB",
    ]  # fmt: skip


def test_watch_shows_steps_when_asked_and_json_shows_all(command, daemon):
    daemon.script = [StepChanged(run=RUN, round=1, view=0, step="collect"), RunFinished(run=RUN, round=1)]
    assert "round 1 view 0: collect" in command("run", "watch", RUN[:5], "-v")[1]


def test_a_loss_that_is_not_told_is_not_shown(command, daemon):
    told = [TrainingReported(run=RUN, round=1, step=step, steps=2, loss=loss) for step, loss in ((1, None), (2, 0.5))]
    daemon.script = [*told, RunFinished(run=RUN, round=1)]
    out = command("run", "watch", RUN, "-v")[1]
    assert [line.split("trained ")[1] for line in out.splitlines()[:2]] == ["1 of 2", "2 of 2, loss 0.5"]


def test_watch_with_json_is_an_event_a_line(command, daemon):
    daemon.script = [certified(1), RunFinished(run=RUN, round=1)]
    out = command("run", "watch", RUN, "--json")[1]
    assert [json.loads(line)["event"] for line in out.splitlines()] == ["round-certified", "run-finished"]


def test_every_error_has_an_exit_code_of_its_own():
    kinds = {PrimeError, *PrimeError.__subclasses__()}
    named = {kind for kind in kinds if kind.__module__ == PrimeError.__module__}
    assert named == EXIT_CODES.keys()
    assert len(set(EXIT_CODES.values())) == len(EXIT_CODES)


def test_the_tail_is_the_newest_lines_and_following_crosses_a_rotation(tmp_path):
    path = tmp_path / "daemon.log"
    path.write_text("a\nb\nc\n")
    assert tail(path, 2) == ["b", "c"]
    assert tail(path, 0) == []
    lines = follow(path, 1)
    assert next(lines) == "c"
    with path.open("a") as file:
        file.write("d\ne\n")
    assert [next(lines), next(lines)] == ["d", "e"]
    with path.open("a") as file:
        file.write("the last one\n")
    path.rename(tmp_path / "daemon.log.1")
    path.write_text("f\n")
    assert [next(lines), next(lines)] == ["the last one", "f"]


def test_the_tail_of_a_new_file_goes_back_into_the_one_before(tmp_path):
    path = tmp_path / "daemon.log"
    path.write_text("c\n")
    (tmp_path / "daemon.log.1").write_text("a\nb\n")
    assert [tail(path, lines) for lines in (1, 2, 9)] == [["c"], ["b", "c"], ["a", "b", "c"]]
    lines = follow(path, 2)
    assert [next(lines), next(lines)] == ["b", "c"]


def test_durations_have_two_units():
    spans = [0.25, 61, 3_661, 3 * 86_400 + 7_200]
    assert [duration(span) for span in spans] == ["0.2 s", "1 min 1 s", "1 h 1 min", "3 d 2 h"]
