from threading import Event

import msgspec
import pytest

from primep2p.cli.bench.figures import Bench
from primep2p.cli.bench.measuring import interleaved
from primep2p.cli.bench.pipelines import pipelines
from primep2p.cli.main import main
from primep2p.model.pipeline import Pipeline


def test_calls_that_are_compared_take_turns() -> None:
    made: list[str] = []
    timings = interleaved([lambda: lambda: made.append("one"), lambda: lambda: made.append("other")], repeats=3)
    assert made == ["one", "other"] * 4
    assert [timing.calls for timing in timings] == [3, 3]


def test_a_call_beyond_its_budget_is_made_once_and_the_others_go_on() -> None:
    made: list[str] = []
    never = Event()

    def slow() -> None:
        made.append("slow")
        never.wait(0.02)

    timings = interleaved([lambda: slow, lambda: lambda: made.append("quick")], repeats=3, budget_s=0.03)
    assert made.count("slow") == 1
    assert made.count("quick") == 4
    assert timings[0].seconds >= 0.02


def test_the_pipelines_suit_their_numbers_of_updates() -> None:
    for updates in (7, 10, 100):
        assert [name for name, each in pipelines(updates).items() if each.least_updates > updates] == []
    assert {type(each.rule) for each in pipelines(10).values()} == set(rules_of(Pipeline))


def rules_of(pipeline: type[Pipeline]) -> tuple[type, ...]:
    return next(field.type for field in msgspec.structs.fields(pipeline) if field.name == "rule").__args__


def test_the_command_tells_of_each_rule_at_both_sizes_and_of_what_others_published(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as left:
        main(["bench", "--quick", "--json"])
    found = msgspec.json.decode(capsys.readouterr().out, type=Bench)
    assert left.value.code == 0
    measured = {(figure.rule, figure.updates) for figure in found.rules if figure.backend == "numpy"}
    assert measured == {(name, updates) for updates in (10, 100) for name in pipelines(updates)}
    assert [row.name for row in found.published] == ["buffer pass", "FedAvg", "trimmed mean", "reshape"]
    assert {codec.codec for codec in found.codecs} == {"bf16", "int8", "topk 1%"}
    assert all(figure.ms > 0 and figure.share_of_read_bandwidth > 0 for figure in found.rules)
    assert found.machine.read_gb_s > 0
