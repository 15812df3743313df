import os
import tomllib
from pathlib import Path

import msgspec
import pytest

from primep2p.config import NodeConfig, Origin, effective, load
from primep2p.model.errors import ConfigError
from primep2p.model.pipeline import Clip, Krum, Median, NearestNeighbours, Pipeline, Sgd, TopK, TrimmedMean
from primep2p.model.records import RoundPolicy
from primep2p.model.stopping import AtLeast, AtMost, Stop
from primep2p.run_config import RunConfig, StopConfig, load_run
from primep2p.strict import build, plain
from tests.core.kit import run_spec

TOP = Path(__file__).resolve().parents[1]
PEER = "12D3KooW" + "A" * 44


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "node.toml"
    path.write_text(text)
    return path


def test_node_toml_at_the_top_has_every_key_with_its_default():
    table = tomllib.loads((TOP / "node.toml").read_text())
    assert table == plain(NodeConfig())
    assert build(NodeConfig, table) == NodeConfig()


def test_without_a_file_everything_is_default_and_the_home_absolute():
    config = load(None, {})
    assert config.home == Path("~/.primep2p").expanduser()
    assert config.p2p == NodeConfig().p2p


def test_relative_paths_start_at_the_file(tmp_path, monkeypatch):
    monkeypatch.chdir("/")
    path = written(
        tmp_path, '[node]\nhome = "h"\n[control]\nsocket = "s"\n[trainer]\ndata = "d"\nplugins = { a = "p.py:C" }'
    )
    config = load(path, {})
    assert config.home == tmp_path / "h"
    assert config.control.socket == str(tmp_path / "s")
    assert config.trainer.data == str(tmp_path / "d")
    assert config.trainer.plugins == {"a": f"{tmp_path}/p.py:C"}


def test_a_trainer_of_a_module_is_no_path(tmp_path):
    path = written(tmp_path, '[trainer.plugins]\na = "package.module:C"\nb = "sub/p.py:C"')
    assert load(path, {}).trainer.plugins == {"a": "package.module:C", "b": f"{tmp_path}/sub/p.py:C"}


def test_the_file_is_c_then_the_variable_then_the_one_in_the_home(tmp_path):
    for name in ("c", "variable", "home"):
        (tmp_path / name).mkdir()
        written(tmp_path / name, f'[node]\nnetwork = "{name}"')
    env = {"PRIMEP2P_CONFIG": str(tmp_path / "variable" / "node.toml")}
    assert load(tmp_path / "c" / "node.toml", env, home=tmp_path / "home").node.network == "c"
    assert load(None, env, home=tmp_path / "home").node.network == "variable"
    assert load(None, {}, home=tmp_path / "home").node.network == "home"
    assert load(None, {"PRIMEP2P__NODE__HOME": str(tmp_path / "home")}).node.network == "home"


def test_the_environment_beats_the_file_and_home_beats_both(tmp_path):
    path = written(tmp_path, '[node]\nhome = "file"\nnetwork = "file"\n[store]\nkeep_updates = 9')
    env = {"PRIMEP2P__NODE__NETWORK": "7", "PRIMEP2P__P2P__LISTEN": '["/ip4/127.0.0.1/tcp/0"]', "HOME": "/x"}
    config = load(path, env, home=tmp_path / "flag")
    assert config.home == tmp_path / "flag"
    assert config.node.network == "7"
    assert config.p2p.listen == ("/ip4/127.0.0.1/tcp/0",)
    assert config.store.keep_updates == 9


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ('[p2p]\nlisten = ["x"]', "p2p.listen[0] must be a multiaddr such as /ip4/0.0.0.0/tcp/4650"),
        ('[p2p]\nlisten = ["/ip4/0.0.0.0/tcp/1", 7]', "p2p.listen[1] must be a string, not an integer"),
        ('[p2p]\nlisten = "/ip4/0.0.0.0/tcp/1"', "p2p.listen must be an array, not a string"),
        ("[p2p]\nlistn = []", "p2p.listn is not known: did you mean listen?"),
        ("[pp]", "pp is not known: did you mean p2p?"),
        (
            "[quux]",
            "quux is not known: the keys here are node, p2p, control, trainer, train_when, compute, plans, store, log",
        ),
        ("log = 1", "log must be a table of keys and values"),
        ("[store]\nkeep_updates = 0", "store.keep_updates must be an integer >= 1"),
        ("[store]\nkeep_updates = 1.5", "store.keep_updates must be an integer, not a number"),
        ('[log]\nlevel = "loud"', "log.level must be one of debug, info, warning, error"),
        ('[train_when]\nhours = "22-6"', "train_when.hours must be two times of the day such as 22:00-06:00"),
        ('[train_when]\nhours = "24:00-06:00"', "train_when.hours must be"),
        ("[train_when]\nmin_upload_mbps = -1.0", "train_when.min_upload_mbps must be"),
        ("[trainer]\nsilent_s = 0", "trainer.silent_s must be a number > 0.0"),
        (
            '[trainer]\nplugins = { a = "b" }',
            "trainer.plugins.a must be a file and a class such as trainer.py:MyTrainer",
        ),
        ("x", "not TOML"),
    ],
)
def test_a_mistake_in_the_file_is_one_sentence_with_its_path(tmp_path, text, sentence):
    with pytest.raises(ConfigError) as error:
        load(written(tmp_path, text), {})
    assert error.value.sentence.startswith(f"{tmp_path / 'node.toml'}: {sentence}")
    assert "\n" not in error.value.sentence


@pytest.mark.parametrize(
    ("variable", "value", "sentence"),
    [
        ("PRIMEP2P__P2P__LISTEN", "7", "p2p.listen must be an array, not an integer"),
        ("PRIMEP2P__P2P__LISTN", "[]", "p2p.listn is not known: did you mean listen?"),
        ("PRIMEP2P__PP__LISTEN", "[]", "pp is not known"),
        ("PRIMEP2P__P2P", "[]", "is not of the form PRIMEP2P__SECTION__KEY"),
        ("PRIMEP2P__STORE__KEEP_UPDATES", "1\nx = 2", "store.keep_updates must be an integer, not a string"),
    ],
)
def test_a_mistake_in_the_environment_names_its_variable(variable, value, sentence):
    with pytest.raises(ConfigError) as error:
        load(None, {variable: value})
    assert error.value.sentence.startswith(f"{variable}: {sentence}")


@pytest.mark.parametrize(
    ("address", "listens", "dials"),
    [
        ("/ip4/127.0.0.1/tcp/4650", True, True),
        ("/ip6/::1/tcp/4650", True, True),
        ("/ip4/127.0.0.1/tcp/0", True, False),
        (f"/ip4/127.0.0.1/tcp/4650/p2p/{PEER}", False, True),
        ("/dns/example.org/tcp/1", False, True),
        ("/dns4/node.example.org/tcp/443", False, True),
        (f"/dns6/example.org/tcp/1/p2p/{PEER}", False, True),
        ("/dns4/node.example.org/tcp/443/ws", False, False),
        ("/ip4/127.0.0.1/tcp/4650/ws", False, False),
        ("/ip4/256.0.0.1/tcp/1", False, False),
        ("/ip6/fe80::1%eth0/tcp/1", False, False),
        ("/ip4/127.0.0.1/tcp/65536", False, False),
        ("/ip4/127.0.0.1/tcp/01", False, False),
        ("/ip4/127.0.0.1/tcp", False, False),
        ("/ip4/127.0.0.1/udp/1", False, False),
        ("/ip4/127.0.0.1/tcp/1/p2p/x", False, False),
        ("/dns4//tcp/1", False, False),
        ("/dns4/a..b/tcp/1", False, False),
        ("/dns4/-/tcp/1", False, False),
        (f"/dns4/{'a' * 64}.b/tcp/1", False, False),
        ("127.0.0.1:4650", False, False),
        ("", False, False),
    ],
)
def test_addresses_are_what_the_host_can_listen_on_and_dial(tmp_path, address, listens, dials):
    for key, good in (("listen", listens), ("announce", dials)):
        path = written(tmp_path, f'[p2p]\n{key} = ["{address}"]')
        if good:
            assert getattr(load(path, {}).p2p, key) == (address,)
        else:
            with pytest.raises(ConfigError, match=rf"p2p.{key}\[0\] must be a multiaddr"):
                load(path, {})


def test_a_bootstrap_address_must_name_its_peer(tmp_path):
    assert load(written(tmp_path, f'[p2p]\nbootstrap = ["/ip4/127.0.0.1/tcp/1/p2p/{PEER}"]'), {}).p2p.bootstrap
    with pytest.raises(ConfigError, match=r"p2p.bootstrap\[0\] must be a multiaddr with a peer id"):
        load(written(tmp_path, '[p2p]\nbootstrap = ["/ip4/127.0.0.1/tcp/1"]'), {})


@pytest.mark.skipif(os.getuid() == 0, reason="root reads everything")
def test_a_file_that_cannot_be_read_is_a_sentence(tmp_path):
    written(tmp_path, "").chmod(0)
    with pytest.raises(ConfigError, match="cannot read"):
        load(tmp_path / "node.toml", {})


def test_a_file_that_is_not_there_is_a_sentence(tmp_path):
    with pytest.raises(ConfigError, match=r"there is no file .*x\.toml"):
        load(tmp_path / "x.toml", {})


# ---- runs


def run_of(tmp_path: Path, text: str) -> RunConfig:
    path = tmp_path / "run.toml"
    path.write_text('name = "x"\ntrainer = "mlp"\n' + text)
    return load_run(path)


def test_the_example_is_a_run_and_its_comments_show_the_defaults(tmp_path):
    example = (TOP / "examples" / "run.toml").read_text()
    assert load_run(TOP / "examples" / "run.toml").trainer == "mlp"
    head, tables = example.split("[pipeline]")
    shown = "\n".join(line.removeprefix("# ") for line in tables.splitlines())
    (tmp_path / "run.toml").write_text(head + "[pipeline]\n" + shown)
    full = load_run(tmp_path / "run.toml")
    assert full == load_run(TOP / "examples" / "run.toml")
    every_key = tomllib.loads((tmp_path / "run.toml").read_text())
    for section in ("pipeline", "policy", "admission", "stop"):
        shown = {key for key, value in plain(getattr(full, section)).items() if value is not None}
        assert every_key[section].keys() == shown


def test_a_threshold_may_be_written_as_a_number(tmp_path):
    assert run_of(tmp_path, "[policy]\nconsensus_threshold = 0.75").policy == RoundPolicy(consensus_threshold="0.75")
    assert run_of(tmp_path, '[policy]\nconsensus_threshold = "1"').policy.consensus_threshold == "1"


def test_what_ends_a_run_is_counted_from_when_it_is_created(tmp_path: Path) -> None:
    config = run_of(tmp_path, '[stop]\nmetric = "loss"\nat_most = 0.5\nhours = 1.5').stop
    assert config.stop(1000.2) == Stop(AtMost("loss", 0.5), 6401)
    assert StopConfig.of(config.stop(0.0)) == StopConfig(metric="loss", at_most=0.5)
    assert StopConfig(metric="a", at_least=1.0).stop(0.0) == Stop(AtLeast("a", 1.0))
    assert StopConfig().stop(5.0) == Stop()


@pytest.mark.parametrize(("written", "held"), [("0.25", "0.25"), ("1", "1"), ('"0.5"', "0.5"), ("0.00001", "0.00001")])
def test_a_sample_may_be_written_as_a_number(tmp_path, written, held):
    assert run_of(tmp_path, f"[policy]\nsample_fraction = {written}").policy == RoundPolicy(sample_fraction=held)


@pytest.mark.parametrize(
    ("written", "held"),
    [
        ('rule = "median"', Pipeline(Median())),
        ('rule = { name = "krum", f = 2 }', Pipeline(Krum(2))),
        ('[pipeline.rule]\nname = "trimmed_mean"\ntrim_ratio = 0.25', Pipeline(TrimmedMean("0.25"))),
        (
            'rule = "median"\npre = ["nnm", { name = "clip", norm = 2 }]',
            Pipeline(Median(), (NearestNeighbours(), Clip(2.0))),
        ),
        ('outer = { name = "sgd", momentum = 0.9 }', Pipeline(outer=Sgd(momentum=0.9))),
        ('wire = { name = "topk", ratio = 0.00001 }', Pipeline(wire=TopK("0.00001"))),
    ],
)
def test_a_stage_is_a_table_with_a_name_or_that_alone(tmp_path, written, held):
    text = written if written.startswith("[") else f"[pipeline]\n{written}"
    run = run_of(tmp_path, f"{text}\n[policy]\nfirst_members = 9")
    assert run.pipeline == held
    assert build(RunConfig, plain(run)) == run


@pytest.mark.parametrize(
    ("text", "least", "wanted"),
    [
        ("", 3, 3),
        ("updates_per_version = 4", 3, 4),
        ("first_members = 9\nmin_members = 6\nupdates_per_version = 5", 4, 5),
        ("first_members = 2", 2, 2),
        ("first_members = 9\nmin_members = 6\nmin_updates = 7", 7, 7),
    ],
)
def test_a_buffered_round_takes_two_thirds_of_the_least_roster_or_more(tmp_path, text, least, wanted):
    run = run_of(tmp_path, f'[policy]\nmode = "buffered"\n{text}')
    spec = msgspec.structs.replace(run_spec().record, policy=run.policy)
    assert (spec.least_updates, spec.wanted_updates) == (least, wanted)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("[policy]\nconsensus_threshold = 0.4", "policy.consensus_threshold must lie within 0.5 and 1"),
        ("[policy]\nconsensus_threshold = 7", "policy.consensus_threshold must be a decimal up to 1, such as 0.66"),
        ("[policy]\nmin_updates = 5", "policy.min_updates must not be above policy.first_members, which is 4"),
        ("[policy]\nmin_members = 5", "policy.min_members must not be above policy.first_members, which is 4"),
        (
            "[policy]\nfirst_members = 1",
            "policy.min_updates must not be above policy.first_members, which is 1: set min_updates = 1 too",
        ),
        ("[policy]\ngrace_s = 2\ncollect_s = 1.0", "policy.grace_s must not be above policy.collect_s, which is 1"),
        ("[policy]\nsample_fraction = 0", "policy.sample_fraction must be"),
        ("[policy]\nsample_fraction = 0.0", "policy.sample_fraction must be above 0"),
        ("[policy]\nsample_fraction = 1.5", "policy.sample_fraction must be"),
        ("[policy]\nsample_fraction = true", "policy.sample_fraction must be"),
        ("[policy]\nmax_cohort = 242", "policy.max_cohort times policy.committee_size must not be above 7500"),
        ("[policy]\nmax_cohort = 1", "policy.min_updates must not be above policy.max_cohort, which is 1"),
        ("[policy]\ncommittee_size = 15", "policy.committee_size must be an integer >= 16"),
        ("[policy]\nvote_s = 31.0", "policy.vote_s must not be above policy.step_cap_s, which is 30"),
        ('[policy]\nmode = "async"', "policy.mode must be"),
        ("[policy]\nmax_staleness = 3", 'policy.max_staleness has no effect unless policy.mode is "buffered"'),
        ("[policy]\nupdates_per_version = 3", "policy.updates_per_version has no effect unless"),
        ('[policy]\nmode = "buffered"\nmax_staleness = 65', "policy.max_staleness must be an integer <= 64"),
        ('[policy]\nmode = "buffered"\nsample_fraction = 0.5', "policy.sample_fraction must be 1 where policy.mode is"),
        (
            '[policy]\nmode = "buffered"\nupdates_per_version = 2',
            "policy.updates_per_version must not be below 3: two thirds of the members",
        ),
        (
            '[policy]\nmode = "buffered"\nfirst_members = 9\nmin_members = 7\nupdates_per_version = 4',
            "policy.updates_per_version must not be below 5: two thirds of policy.min_members",
        ),
        (
            '[pipeline]\nrule = "krum"\n[policy]\nmode = "buffered"\nfirst_members = 9\nupdates_per_version = 4',
            "policy.updates_per_version must not be below 5: what krum with f = 1 needs",
        ),
        (
            '[policy]\nmode = "buffered"\nupdates_per_version = 5',
            "policy.updates_per_version must not be above policy.first_members, which is 4: a member has one update",
        ),
        ("[policy]\nrounds = -1", "policy.rounds must be an integer >= 0"),
        ("[policy]\nround = 1", "policy.round is not known: did you mean rounds?"),
        ('[pipeline]\nrule = "best"', "pipeline.rule must be one of fedavg, median, trimmed_mean, krum"),
        ('[pipeline]\nrule = { name = "best" }', "pipeline.rule.name must be one of fedavg, median"),
        ("[pipeline]\nrule = { name = 1 }", "pipeline.rule.name must be one of fedavg, median"),
        ("[pipeline]\nrule = { f = 1 }", "pipeline.rule.name is missing: one of fedavg, median"),
        ("[pipeline]\nrule = 1", "pipeline.rule must be one of fedavg"),
        ('[pipeline]\nrule = { name = "krum", nu = 1 }', "pipeline.rule.nu is not known: the keys here are name, f"),
        ('[pipeline]\nrule = { name = "krum", f = 0 }', "pipeline.rule.f must be an integer >= 1"),
        ('[pipeline]\nweighting = "uniform"', "pipeline.weighting is not known"),
        ('[pipeline]\npre = "nnm"', "pipeline.pre must be an array, not a string"),
        ('[pipeline]\npre = ["nnm", "krum"]', "pipeline.pre[1] must be one of clip, arc, nnm, bucketing"),
        ('[pipeline]\npre = ["nnm", { name = "clip", norm = nan }]', "pipeline.pre[1].norm must be a number >= 1e-30"),
        (
            '[pipeline]\nwire = { name = "topk", ratio = 1 }',
            "pipeline.wire.ratio must be a decimal below 1, such as 0.1",
        ),
        ('[pipeline]\nwire = { name = "topk", ratio = true }', "pipeline.wire.ratio must be a decimal below 1"),
        (
            '[pipeline]\nrule = { name = "krum", f = 2 }',
            "pipeline.rule: krum with f = 2 needs 7 updates a round (2f + 3), and policy.first_members is 4",
        ),
        (
            '[pipeline]\nrule = "krum"\n[policy]\nfirst_members = 9\nmax_cohort = 4',
            "pipeline.rule: krum with f = 1 needs 5 updates a round (2f + 3), and policy.max_cohort is 4",
        ),
        (
            '[pipeline]\nrule = { name = "multi_krum", f = 1, m = 9 }',
            "pipeline.rule: multi_krum with f = 1 and m = 9 needs 10 updates a round (m + f), and",
        ),
        (
            '[pipeline]\nrule = "trimmed_mean"\npre = ["bucketing", "clip", { name = "bucketing", size = 3 }]',
            "pipeline.rule: trimmed_mean needs 13 updates a round (one is cut at each end, in buckets of 6), and",
        ),
        (
            '[pipeline]\nrule = "krum"\npre = ["clip", { name = "nnm", f = 3 }]',
            "pipeline.pre[1]: nnm with f = 3 needs 7 updates a round (2f + 1), and policy.first_members is 4",
        ),
        ('[pipeline]\npre = ["clip", "nnm"]', "pipeline.pre[1]: nnm with f = 1 mixes updates: pipeline.rule.weighting"),
        (
            '[pipeline]\nrule = "geometric_median"\npre = ["bucketing"]',
            'pipeline.pre[0]: bucketing mixes updates: pipeline.rule.weighting must be "uniform"',
        ),
        (
            '[pipeline]\nrule = { name = "trimmed_mean", trim_ratio = 0.5 }\n[policy]\nfirst_members = 9',
            "pipeline.rule.trim_ratio must be a decimal below 0.5, such as 0.1",
        ),
        ('[pipeline]\nwire = { name = "topk", ratio = 0.0 }', "pipeline.wire.ratio must be above 0"),
        ('[stop]\nmetric = "loss"', "stop.metric needs one of stop.at_least and stop.at_most"),
        ('[stop]\nmetric = "loss"\nat_least = 1.0\nat_most = 2.0', "stop.metric needs one of"),
        ("[stop]\nat_most = 1.0", "stop.metric must name the metric that stop.at_most is about"),
        ('[stop]\nmetric = "loss"\nat_most = nan', "stop.at_most must be a finite number"),
        ("[stop]\nhours = -1.0", "stop.hours must be"),
        ('[admission]\nmode = "allowlist"', "admission.peers must name a peer"),
        (f'[admission]\npeers = ["{PEER}"]', "admission.peers has no effect unless"),
        (f'[admission]\nmode = "invite"\npeers = ["{PEER}"]', "admission.peers has no effect unless"),
        (f'[admission]\ninviters = ["{PEER}"]', "admission.inviters has no effect unless"),
        ("[trainer_config]\na = nan", "trainer_config.a must be a finite number"),
        ("[trainer_config]\na = [1, 9223372036854775808]", "trainer_config.a must fit into 64 bits"),
        ("[trainer_config]\na = { b = 1 }", "trainer_config.a must be"),
    ],
)
def test_a_mistake_in_a_run_is_one_sentence_with_its_path(tmp_path, text, sentence):
    with pytest.raises(ConfigError) as error:
        run_of(tmp_path, text)
    assert error.value.sentence.startswith(f"{tmp_path / 'run.toml'}: {sentence}")


def test_a_run_without_a_name_says_so(tmp_path):
    (tmp_path / "run.toml").write_text('trainer = "mlp"')
    with pytest.raises(ConfigError, match=r"run.toml: name is missing"):
        load_run(tmp_path / "run.toml")


def test_every_mistake_of_a_file_is_known_and_the_sentence_has_the_first(tmp_path):
    text = '[p2p]\nlisten = ["x", "y"]\nlistn = 1\n[log]\nlevel = "loud"\n[compute]\nthreads = -1\n'
    with pytest.raises(ConfigError) as caught:
        load(written(tmp_path, text), {"PRIMEP2P__LOG__LEVL": "1"})
    assert caught.value.sentence == ("PRIMEP2P__LOG__LEVL: log.levl is not known: did you mean level? (and 3 more)")
    file = tmp_path / "node.toml"
    assert caught.value.mistakes[1:] == (
        f"{file}: p2p.listn is not known: did you mean listen?",
        f"{file}: log.level must be one of debug, info, warning, error",
        f"{file}: compute.threads must be an integer >= 0",
    )
    assert caught.value.hint == f"see: primep2p config check -c {file}"


def test_items_of_a_list_are_mistaken_one_by_one(tmp_path):
    with pytest.raises(ConfigError) as caught:
        load(written(tmp_path, '[p2p]\nlisten = ["x", "/ip4/0.0.0.0/tcp/1", "y"]\n'), {})
    assert [mistake.partition(" must")[0].split()[-1] for mistake in caught.value.mistakes] == [
        "p2p.listen[0]",
        "p2p.listen[2]",
    ]


def test_every_mistake_of_a_run_is_known(tmp_path):
    path = tmp_path / "run.toml"
    path.write_text('name = "a"\ntrainer = "b"\n[policy]\nfirst_members = 1\nmax_cohort = 0\n')
    with pytest.raises(ConfigError) as caught:
        load_run(path)
    assert caught.value.mistakes == (f"{path}: policy.max_cohort must be an integer >= 1",)
    path.write_text('name = "a"\ntrainer = "b"\n[policy]\nfirst_members = 1\nvote_s = 31\n')
    with pytest.raises(ConfigError) as caught:
        load_run(path)
    assert [mistake.split()[1] for mistake in caught.value.mistakes] == ["policy.min_updates", "policy.vote_s"]
    assert caught.value.hint == f"see: primep2p run check {path}"


def test_each_value_tells_where_it_comes_from(tmp_path):
    path = written(tmp_path, '# ours\n[node]\nhome = "h"\nnetwork = "lab"\n[trainer.plugins]\na = "p.py:C"\n')
    env = {"PRIMEP2P__LOG__LEVEL": "debug", "PRIMEP2P__NODE__NETWORK": "7"}
    found = effective(path, env, home=tmp_path / "other")
    assert found.config == load(path, env, home=tmp_path / "other")
    assert found.file == path
    assert found.origins == {
        "node.home": Origin("option", "--home"),
        "node.network": Origin("environment", "PRIMEP2P__NODE__NETWORK"),
        "log.level": Origin("environment", "PRIMEP2P__LOG__LEVEL"),
        "trainer.plugins": Origin("file", f"{path}:5"),
    }


def test_limits_of_one_trainer_are_a_table_of_its_own(tmp_path):
    found = effective(written(tmp_path, "[trainer]\ncpu_s = 5\n[trainer.limits.mlp]\nmemory_mib = 7\n"), {})
    limits = found.config.trainer.limits["mlp"]
    assert (limits.memory_mib, limits.cpu_s, found.config.trainer.cpu_s) == (7, 0, 5)
    assert found.origins["trainer.limits"].place.endswith(":3")
    with pytest.raises(ConfigError, match=r"trainer\.limits\.mlp\.memory is not known.*did you mean memory_mib"):
        load(written(tmp_path, "[trainer.limits.mlp]\nmemory = 7\n"), {})
