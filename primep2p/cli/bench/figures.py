"""What `primep2p bench` finds out: as JSON, and as tables."""

from collections.abc import Sequence

import msgspec
from rich.console import Console
from rich.table import Table

__all__ = ["Absent", "Bench", "CodecFigure", "Machine", "PublishedFigure", "RuleFigure", "show"]


class Machine(msgspec.Struct, frozen=True):
    """What was measured on, and how fast it reads memory."""

    cpu: str
    system: str
    python: str
    numpy: str
    threads: int
    read_gb_s: float
    """With all threads."""
    read_gb_s_one_thread: float


class PublishedFigure(msgspec.Struct, frozen=True):
    """A row that Prime ML NAPI published, for 10,000 gradients."""

    name: str
    ms: float
    published_ms: float
    backend: str = ""


class RuleFigure(msgspec.Struct, frozen=True):
    """A pipeline on so many updates of so many values each."""

    rule: str
    updates: int
    values: int
    backend: str
    ms: float
    gb_s: float
    """Of input."""
    share_of_read_bandwidth: float


class CodecFigure(msgspec.Struct, frozen=True):
    """A form of the wire, for one update of so many values; GB/s of float32."""

    codec: str
    values: int
    encode_ms: float
    encode_gb_s: float
    decode_ms: float
    decode_gb_s: float


class Absent(msgspec.Struct, frozen=True):
    """A backend that this machine does not have."""

    backend: str
    reason: str


class Bench(msgspec.Struct, frozen=True):
    """All of it. Times are medians, in milliseconds."""

    machine: Machine
    published: list[PublishedFigure]
    published_on: str
    published_values: int
    """Of each of our gradients: theirs are not told."""
    rules: list[RuleFigure]
    codecs: list[CodecFigure]
    absent: list[Absent]


def show(bench: Bench, console: Console) -> None:
    """Tables, in the order of the figures."""
    machine = bench.machine
    console.print(f"{machine.cpu}, {machine.system}, Python {machine.python}, numpy {machine.numpy}")
    console.print(
        f"reads {machine.read_gb_s:.1f} GB/s with {machine.threads} threads, "
        f"{machine.read_gb_s_one_thread:.1f} with one; GB/s below are of float32 input, and read is the share of that"
    )
    for absent in bench.absent:
        console.print(f"no {absent.backend}: {absent.reason}")
    _show_published(bench, console)
    _show_rules(bench.rules, console)
    table = _table("codec", ">values", ">encode ms", ">GB/s", ">decode ms", ">GB/s")
    for codec in bench.codecs:
        encoded = (_ms(codec.encode_ms), f"{codec.encode_gb_s:.1f}")
        table.add_row(codec.codec, f"{codec.values:,}", *encoded, _ms(codec.decode_ms), f"{codec.decode_gb_s:.1f}")
    console.print()
    console.print(table)


def _show_published(bench: Bench, console: Console) -> None:
    table = _table("10,000 gradients", ">ms here", f">ms of Prime ML NAPI, {bench.published_on}", "backend")
    for row in bench.published:
        table.add_row(row.name, _ms(row.ms), _ms(row.published_ms), row.backend)
    console.print()
    console.print(table)
    console.print(f"a gradient has {bench.published_values} values here; theirs are not told, and another machine's")


def _show_rules(rules: Sequence[RuleFigure], console: Console) -> None:
    table = _table("rule", ">K x D", "backend", ">ms", ">GB/s", ">read")
    for rule in rules:
        figures = (_ms(rule.ms), f"{rule.gb_s:.2f}", f"{rule.share_of_read_bandwidth:.2f}")
        table.add_row(rule.rule, f"{rule.updates} x {rule.values:,}", rule.backend, *figures)
    console.print()
    console.print(table)


def _table(*headings: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in headings:
        table.add_column(heading.lstrip(">"), justify="right" if heading[0] == ">" else "left", no_wrap=True)
    return table


def _ms(value: float) -> str:
    return f"{value:.4f}" if value < 0.1 else f"{value:,.2f}"
