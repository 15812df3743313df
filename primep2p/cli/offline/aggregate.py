"""`primep2p aggregate`: a rule on files, without a daemon."""

from importlib import import_module
from pathlib import Path
from typing import Annotated, get_args

from cyclopts import Parameter

from primep2p.cli.at import Json
from primep2p.cli.render.printing import print_json
from primep2p.model.errors import ConfigError
from primep2p.model.pipeline import Bucketing, Pipeline, Rule
from primep2p.strict import Fault, build

__all__ = ["aggregate"]

RULES = {str(kind.__struct_config__.tag): kind for kind in get_args(Rule)}

WEIGHED = [name for name, kind in RULES.items() if "weighting" in kind.__struct_fields__]


def aggregate(
    files: Annotated[list[Path], Parameter(negative=(), help="safetensors files with the same float32 tensors.")],
    *,
    out: Annotated[Path, Parameter(name=["--out", "-o"], help="The file to write.")],
    rule: Annotated[
        str, Parameter(help="fedavg, median, trimmed_mean, krum, multi_krum, bulyan, geometric_median, centered_clip.")
    ] = "fedavg",
    f: Annotated[str | None, Parameter(help="How many files may be liars': krum, multi_krum, bulyan.")] = None,
    m: Annotated[str | None, Parameter(help="How many files multi_krum averages.")] = None,
    trim_ratio: Annotated[str | None, Parameter(help="The part that trimmed_mean cuts at each end.")] = None,
    nu: Annotated[str | None, Parameter(help="The least distance that geometric_median divides by.")] = None,
    tau: Annotated[str | None, Parameter(help="The longest step of centered_clip.")] = None,
    iterations: Annotated[str | None, Parameter(help="Of geometric_median and centered_clip.")] = None,
    pre: Annotated[
        list[str],
        Parameter(
            negative=(),
            show_default=False,
            help="A stage before the rule, as NAME or NAME:KEY=VALUE: clip:norm=5, arc:f=1, nnm:f=1, bucketing.",
        ),
    ] = [],  # noqa: B006  cyclopts reads it, nobody writes to it
    examples: Annotated[str, Parameter(help="The weights of the files, in their order: 100,250,80.")] = "",
    seed: Annotated[str, Parameter(help="What bucketing draws from.")] = "",
    json: Json = False,
) -> None:
    """Aggregate safetensors files by a rule, as a round does, to the same bytes on every machine."""
    given = {"f": f, "m": m, "trim_ratio": trim_ratio, "nu": nu, "tau": tau, "iterations": iterations}
    if rule in WEIGHED:
        given["weighting"] = "examples" if examples else "uniform"
    elif examples:
        raise ConfigError(f"--examples has no effect with {rule}: every file counts the same")
    pipeline = _pipeline(rule, {key: _setting(key, value) for key, value in given.items() if value is not None}, pre)
    if seed and not any(isinstance(stage, Bucketing) for stage in pipeline.pre):
        raise ConfigError("--seed has no effect without --pre bucketing: nothing else is drawn")
    if any(path.exists() and out.exists() and path.samefile(out) for path in files):
        raise ConfigError(f"--out {out} is one of the files that are read")
    counts = _counts(examples, len(files))
    work = import_module(
        "primep2p.cli.offline.files"
    ).aggregate  # by name: numpy is heavy, and no other command shall wait
    answer = work(pipeline, files, counts, seed.encode(), out, quiet=json)
    print_json(answer) if json else print(answer.sentence)


def _pipeline(rule: str, settings: dict[str, object], stages: list[str]) -> Pipeline:
    if kind := RULES.get(rule):
        for key in settings:
            if key not in kind.__struct_fields__:
                raise ConfigError(f"--{key.replace('_', '-')} has no effect with {rule}")
    try:
        return build(Pipeline, {"rule": settings | {"name": rule}, "pre": [_stage(text) for text in stages]})
    except Fault as fault:
        option, _, problem = str(fault).replace("rule.name", "rule").removeprefix("rule.").partition(" ")
        raise ConfigError(f"--{option.replace('_', '-')} {problem}") from fault


def _stage(text: str) -> dict[str, object]:
    """NAME:KEY=VALUE,KEY=VALUE as a table."""
    name, _, settings = text.partition(":")
    table: dict[str, object] = {"name": name}
    for setting in settings.split(",") if settings else ():
        key, equals, value = setting.partition("=")
        if not equals or key in table:
            raise ConfigError(f"--pre {text}: NAME:KEY=VALUE,KEY=VALUE is expected, each key once")
        table[key] = _setting(f"pre {text}: {key}", value)
    return table


def _setting(key: str, value: str) -> object:
    """A number as TOML has it: 1 and 1.0 are not the same. What is none stays for others to judge."""
    try:
        return int(value) if value.lstrip("-").isdigit() else float(value)
    except ValueError:
        if key in ("weighting", "trim_ratio"):
            return value
        raise ConfigError(f"--{key.replace('_', '-')} is {value!r}, and must be a number") from None


def _counts(examples: str, files: int) -> list[int]:
    if not examples:
        return [1] * files
    parts = examples.split(",")
    if len(parts) != files or not all(part.isdecimal() and 0 < int(part) <= 2**40 for part in parts):
        raise ConfigError(f"--examples must be {files} counts above 0, one for each file, with commas between")
    return [int(part) for part in parts]
