"""A node's configuration: node.toml, the environment on top, and defaults below.

Everything is checked before anything starts; a mistake is one sentence that names its key.
"""

import ipaddress
import os
import re
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from shlex import quote
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

from primep2p.model.errors import ConfigError
from primep2p.model.ids import PeerId
from primep2p.strict import Fault, Faults, build
from primep2p.toml_lines import lines_of

__all__ = [
    "ENV_FILE",
    "ENV_PREFIX",
    "ComputeSection",
    "ControlSection",
    "Effective",
    "LogSection",
    "NodeConfig",
    "NodeSection",
    "Origin",
    "P2PSection",
    "PlansSection",
    "StoreSection",
    "TrainWhenSection",
    "TrainerLimits",
    "TrainerSection",
    "effective",
    "faulty",
    "is_dialable",
    "is_listenable",
    "load",
    "loopback_port",
    "read_toml",
]

ENV_FILE = "PRIMEP2P_CONFIG"
ENV_PREFIX = "PRIMEP2P__"
DEFAULT_HOME = "~/.primep2p"

_CHECK = "primep2p config check"

Name = Annotated[str, Meta(min_length=1, max_length=64)]


class Section(Struct, frozen=True, kw_only=True):
    """A table of node.toml."""


class NodeSection(Section, frozen=True):
    """Who this node is."""

    home: Annotated[str, Meta(min_length=1)] = DEFAULT_HOME
    """Where its identity, models and log live: one daemon a home."""
    network: Name = "main"
    """Nodes of different networks cannot read each other's signatures."""


class P2PSection(Section, frozen=True):
    """How it meets others."""

    listen: tuple[str, ...] = ("/ip4/0.0.0.0/tcp/4650",)
    """Multiaddrs to accept connections on: TCP over IPv4 or IPv6. Port 0 takes a free one."""
    bootstrap: tuple[str, ...] = ()
    """Peers to connect to at the start, with their peer id: TCP over IPv4, IPv6 or a name (dns, dns4, dns6)."""
    announce: tuple[str, ...] = ()
    """Addresses to tell others instead of those listened on, for example a name, or those of a NAT with a forwarded
    port."""


class ControlSection(Section, frozen=True):
    """How its owner talks to it."""

    socket: str = ""
    """Path of the Unix socket; empty: a short one below the runtime directory of the user."""
    tcp: str = ""
    """Also listen on this port of the loopback interface, as 127.0.0.1:4651, for other users and containers of this
    machine who have a token of the home; empty: do not."""


class TrainerLimits(Section, frozen=True):
    """What one trainer may use for one training, evaluation or other request, with all processes that it starts."""

    memory_mib: Annotated[int, Meta(ge=0, le=2**30)] = 0
    """Resident memory in MiB; 0: no limit."""
    cpu_s: Annotated[float, Meta(ge=0, le=31_536_000)] = 0.0
    """Seconds of processor time, of all cores together; 0: no limit."""
    wall_s: Annotated[float, Meta(ge=0, le=31_536_000)] = 0.0
    """Seconds on the clock; 0: no limit but the round's own."""


class TrainerSection(TrainerLimits, frozen=True):
    """How it trains. The limits are for every trainer that has none of its own."""

    data: str = ""
    """Its own data, given to the trainer as a path; empty: none."""
    plugins: dict[Name, str] = {}
    """Trainers by name, each as path.py:Class, besides those that installed packages bring."""
    silent_s: Annotated[float, Meta(gt=0, le=86_400)] = 120.0
    """A trainer that reports nothing for so long is taken to hang and is stopped."""
    limits: dict[Name, TrainerLimits] = {}
    """Limits by the trainer's name, in place of those above."""
    environment: tuple[Annotated[str, Meta(min_length=1, max_length=256)], ...] = ()
    """Variables that trainers are given although their names look like secrets, such as HF_TOKEN."""


class TrainWhenSection(Section, frozen=True):
    """When it trains; while one of these does not hold it rests: it votes and serves, and nobody waits for it."""

    ac_power: bool = False
    """Only on AC power. A machine without a battery is."""
    unmetered: bool = False
    """Only on a network that costs nothing by the byte, as NetworkManager on Linux sees it. Elsewhere see command."""
    hours: Annotated[str, Meta(max_length=11)] = ""
    """Only at these hours of the day, such as 22:00-06:00, by the local clock; empty: at all."""
    command: tuple[str, ...] = ()
    """Only while this command, looked at every half minute, ends with 0: a program and its arguments; empty: none."""
    min_upload_mbps: Annotated[float, Meta(ge=0, le=1_000_000)] = 0.0
    """Only where the network sends so many Mbit/s, as measured with members, and by real transfers; 0: any number."""
    min_download_mbps: Annotated[float, Meta(ge=0, le=1_000_000)] = 0.0
    """And receives so many."""


class ComputeSection(Section, frozen=True):
    """What aggregates the updates of a round. All choices give the same bytes: a backend that does not is not used."""

    backend: Literal["auto", "numpy", "mlx"] = "auto"
    """auto: MLX on Apple silicon, numpy elsewhere."""
    compiled: bool = True
    """Let compiled kernels stand in for numpy, where llvmlite is installed."""
    threads: Annotated[int, Meta(ge=0, le=1024)] = 0
    """0: one for each core."""


class PlansSection(Section, frozen=True):
    """Whose training steps it runs."""

    trust: tuple[PeerId, ...] = ()
    """Owners of plans: what computes their graphs trusts them as it would a program. Its own are trusted."""


class StoreSection(Section, frozen=True):
    """What it keeps."""

    keep_updates: Annotated[int, Meta(ge=1, le=1_000_000)] = 4
    """Rounds whose updates stay on disk."""
    keep_checkpoints: Annotated[int, Meta(ge=2, le=1_000_000_000)] = 10
    """Rounds of each run whose certified model stays on disk. What is published or pulled stays too."""


class LogSection(Section, frozen=True):
    """What it writes."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    file_mib: Annotated[int, Meta(ge=1, le=1024)] = 10
    """daemon.log goes on in a new file when it is so large."""
    keep_files: Annotated[int, Meta(ge=1, le=100)] = 2
    """So many of the older ones are kept: daemon.log.1 and so on."""


class NodeConfig(Section, frozen=True):
    """All of node.toml. From `load`, paths are absolute."""

    node: NodeSection = NodeSection()
    p2p: P2PSection = P2PSection()
    control: ControlSection = ControlSection()
    trainer: TrainerSection = TrainerSection()
    train_when: TrainWhenSection = TrainWhenSection()
    compute: ComputeSection = ComputeSection()
    plans: PlansSection = PlansSection()
    store: StoreSection = StoreSection()
    log: LogSection = LogSection()

    @property
    def home(self) -> Path:
        """The node's directory."""
        return Path(self.node.home)


@dataclass(frozen=True)
class Origin:
    """Who set a key, and where: FILE:LINE, the variable's name, or the option's."""

    kind: Literal["default", "file", "environment", "option"]
    place: str = ""


@dataclass(frozen=True)
class Effective:
    """A configuration, with the file that was read, if any, and where each key comes from: by its path,
    `section.key`."""

    config: NodeConfig
    file: Path | None
    origins: Mapping[str, Origin]


def load(path: Path | None = None, env: Mapping[str, str] = os.environ, *, home: Path | None = None) -> NodeConfig:
    """The configuration in the file at `path`, else at $PRIMEP2P_CONFIG, else at <home>/node.toml if that is there;
    `PRIMEP2P__SECTION__KEY` in the environment beats the file, and `home` beats both. Raises ConfigError."""
    return effective(path, env, home=home).config


def effective(path: Path | None = None, env: Mapping[str, str] = os.environ, *, home: Path | None = None) -> Effective:
    """What `load` gives, and where it comes from. Raises ConfigError, which knows every mistake."""
    mistakes: list[str] = []
    overrides, origins = _overrides(env, mistakes)
    if home is not None:
        overrides.setdefault("node", {})["home"] = str(_absolute(str(home), Path.cwd()))
        origins["node.home"] = Origin("option", "--home")
    file = path or (Path(env[ENV_FILE]) if env.get(ENV_FILE) else None)
    if file is None:
        fallback = _absolute(overrides.get("node", {}).get("home", DEFAULT_HOME), Path.cwd()) / "node.toml"
        file = fallback if fallback.is_file() else None
    table: dict[str, Any] = {}
    if file is not None:
        with _gathering(mistakes):
            table = read_toml(file)
            origins = _origins_in(file, table) | origins
            table = _plain_paths(_checked(table, str(file)), table, _absolute(str(file), Path.cwd()).parent)
    if mistakes:
        raise _all_of(mistakes, f"{_CHECK} -c {quote(str(path))}" if path else _CHECK)
    for section, keys in overrides.items():
        table[section] = {**table.get(section, {}), **keys}
    config = _checked(table, "configuration")
    node = msgspec.structs.replace(config.node, home=str(_absolute(config.node.home, Path.cwd())))
    return Effective(msgspec.structs.replace(config, node=node), file, origins)


def faulty(source: str, fault: Fault, check: str = _CHECK) -> ConfigError:
    """What is wrong in `source`; `check` is the command that tells all of it."""
    return _all_of([f"{source}: {each}" for each in fault.all], check)


def _all_of(mistakes: Sequence[str], check: str = _CHECK) -> ConfigError:
    if len(mistakes) == 1:
        return ConfigError(mistakes[0])
    sentence = f"{mistakes[0]} (and {len(mistakes) - 1} more)"
    return ConfigError(sentence, hint=f"see: {check}", mistakes=mistakes)


@contextmanager
def _gathering(mistakes: list[str]) -> Iterator[None]:
    try:
        yield
    except ConfigError as error:
        mistakes += error.mistakes


def _origins_in(file: Path, table: Mapping[str, Any]) -> dict[str, Origin]:
    lines = lines_of(file.read_text(encoding="utf-8"))
    keys = [(section, key) for section, keys in table.items() if isinstance(keys, dict) for key in keys]
    return {f"{section}.{key}": Origin("file", f"{file}:{lines[f'{section}.{key}']}") for section, key in keys}


def read_toml(path: Path) -> dict[str, Any]:
    """The tables of a TOML file. Raises ConfigError."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ConfigError(f"there is no file {path}") from error
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not TOML: {error}") from error


def _checked(table: dict[str, Any], source: str) -> NodeConfig:
    try:
        config, faults = build(NodeConfig, table), Faults()
        _each(faults, config.p2p, "listen", is_listenable, "a multiaddr such as /ip4/0.0.0.0/tcp/4650")
        _each(faults, config.p2p, "announce", is_dialable, "a multiaddr such as /dns/node.example.org/tcp/4650")
        _each(
            faults,
            config.p2p,
            "bootstrap",
            lambda address: "/p2p/" in address and is_dialable(address),
            "a multiaddr with a peer id such as /ip4/192.0.2.7/tcp/4650/p2p/12D3KooW…",
        )
        if config.control.tcp and loopback_port(config.control.tcp) is None:
            raise Fault("control.tcp", "must be a port of the loopback interface, such as 127.0.0.1:4651")
        if config.train_when.hours and not _HOURS.fullmatch(config.train_when.hours):
            faults.add("train_when.hours", "must be two times of the day such as 22:00-06:00")
        for name, target in config.trainer.plugins.items():
            if not _PLUGIN.fullmatch(target):
                faults.add(f"trainer.plugins.{name}", "must be a file and a class such as trainer.py:MyTrainer")
        faults.done()
    except Fault as fault:
        raise faulty(source, fault) from fault
    return config


_HOURS = re.compile(r"([01][0-9]|2[0-3]):[0-5][0-9]-([01][0-9]|2[0-3]):[0-5][0-9]")
_PLUGIN = re.compile(r".+:[A-Za-z_][A-Za-z0-9_]*")
_PEER = re.compile(r"12D3KooW[1-9A-HJ-NP-Za-km-z]{44}")
_LABEL = r"[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_HOST = re.compile(rf"(?=.{{1,253}}$){_LABEL}(\.{_LABEL})*")


def _each(faults: Faults, section: P2PSection, name: str, good: Callable[[str], bool], wanted: str) -> None:
    for index, address in enumerate(getattr(section, name)):
        if not good(address):
            faults.add(f"p2p.{name}[{index}]", f"must be {wanted}")


def is_listenable(text: str) -> bool:
    """Whether `text` is a multiaddr that a node can listen on: TCP over IPv4 or IPv6."""
    match text.split("/"):
        case ["", "ip4" | "ip6" as kind, host, "tcp", port]:
            return _is_host(kind, host) and _is_port(port)
    return False


def is_dialable(text: str) -> bool:
    """Whether `text` is a multiaddr that a node can dial: TCP over IP or a name, a peer id at the end where wanted."""
    match text.split("/"):
        case ["", kind, host, "tcp", port, "p2p", peer] if _PEER.fullmatch(peer):
            pass
        case ["", kind, host, "tcp", port]:
            pass
        case _:
            return False
    return _is_host(kind, host) and _is_port(port) and int(port) > 0


def loopback_port(text: str) -> tuple[str, int] | None:
    """Host and port of `text`, such as 127.0.0.1:4651 or [::1]:4651; None where that is not on this machine alone."""
    host, _, port = text.rpartition(":")
    inside = re.fullmatch(r"\[(.+:.*)\]|([^:\[\]]+)", host)
    bare = (inside[1] or inside[2]) if inside else ""
    try:
        is_local = ipaddress.ip_address(bare).is_loopback
    except ValueError:
        return None
    return (bare, int(port)) if is_local and _is_port(port) else None


def _is_port(text: str) -> bool:
    return re.fullmatch(r"0|[1-9][0-9]{0,4}", text) is not None and int(text) < 65_536


def _is_host(kind: str, host: str) -> bool:
    try:
        match kind:
            case "ip4":
                return bool(ipaddress.IPv4Address(host))
            case "ip6":
                return ipaddress.IPv6Address(host).scope_id is None  # a zone means something on one machine only
            case "dns" | "dns4" | "dns6":
                return _HOST.fullmatch(host) is not None
    except ValueError:
        pass
    return False


def _absolute(text: str, base: Path) -> Path:
    return Path(os.path.normpath(base / Path(text).expanduser()))


def _plain_paths(config: NodeConfig, table: dict[str, Any], base: Path) -> dict[str, Any]:
    """`table` with the paths that it sets made absolute: relative ones are meant from `base`."""
    paths: dict[tuple[str, str], Any] = {
        ("node", "home"): str(_absolute(config.node.home, base)),
        ("control", "socket"): config.control.socket and str(_absolute(config.control.socket, base)),
        ("trainer", "data"): config.trainer.data and str(_absolute(config.trainer.data, base)),
        ("trainer", "plugins"): {name: _located(target, base) for name, target in config.trainer.plugins.items()},
    }
    return {
        section: {key: paths.get((section, key), value) for key, value in keys.items()}
        for section, keys in table.items()
    }


def _located(target: str, base: Path) -> str:
    """A trainer's class: one in a file from there, and one of a module wherever that is installed."""
    location, _, attribute = target.rpartition(":")
    return f"{_absolute(location, base)}:{attribute}" if location.endswith(".py") else target


def _overrides(env: Mapping[str, str], mistakes: list[str]) -> tuple[dict[str, dict[str, Any]], dict[str, Origin]]:
    """Tables of what the environment sets, each value checked under the name of its variable; and that name."""
    found: dict[str, dict[str, Any]] = {}
    origins: dict[str, Origin] = {}
    for variable, text in env.items():
        if not variable.startswith(ENV_PREFIX):
            continue
        section, _, key = variable.removeprefix(ENV_PREFIX).lower().partition("__")
        if not key:
            mistakes.append(f"{variable}: is not of the form {ENV_PREFIX}SECTION__KEY")
            continue
        wants_text = isinstance(getattr(getattr(NodeConfig(), section, None), key, None), str)
        value = _toml_value(text)
        if wants_text and not isinstance(value, str):
            value = text  # a network named 7 needs no second pair of quotes
        table = {section: {key: value}}
        with _gathering(mistakes):
            table = _plain_paths(_checked(table, variable), table, Path.cwd())
            found.setdefault(section, {}).update(table[section])
            origins[f"{section}.{key}"] = Origin("environment", variable)
    return found, origins


def _toml_value(text: str) -> object:
    try:
        match tomllib.loads(f"value = {text}"):
            case {"value": value, **more} if not more:
                return value
    except tomllib.TOMLDecodeError:
        pass
    return text
