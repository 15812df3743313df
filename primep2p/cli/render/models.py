"""Models, for people."""

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any

from primep2p.cli.render.printing import SHORT, cells, columns, many, number, print_table, say
from primep2p.model.views.models import ModelDetail, ModelGone, ModelPath, ModelSummary, VersionView

if TYPE_CHECKING:
    from primep2p.cli.offline.model_files import Answered, Exported

__all__ = [
    "show_answers",
    "show_exported",
    "show_model",
    "show_models",
    "show_path",
    "show_published",
    "show_removed",
]


def show_models(models: list[ModelSummary], command: Callable[[str], str], owner: str = "") -> None:
    """A model a row, or how there comes to be one; `command` makes a line of a further command."""
    if not models and owner:
        say(f"nothing is found on the shelf of {owner}: it is empty, or its owner was away for more than a day")
        return
    if not models:
        say(f"no models; put one on the shelf with: {command('model publish RUN --as NAME')}")
        return
    table = columns("!model", "latest", ">versions", "here")
    for model in models:
        shown = model.name if model.own else f"{model.owner}/{model.name}"
        versions = model.versions if model.latest else "-"  # nobody has asked for its catalog yet
        table.add_row(*cells((shown, model.latest or "-", versions, ", ".join(model.here[-5:]) or "-")))
    print_table(table)
    if not all(model.latest for model in models):
        say(f"what is offered under a name: {command('model show OWNER/NAME')}")


def show_model(model: ModelDetail) -> None:
    """A model with a version a row, the newest last."""
    say(f"model     {model.owner}/{model.name}{' (yours)' if model.own else ''}")
    say(f"latest    {model.latest}")
    if not model.announced:
        say("as of     what this node knew: the directory could not be asked, or not be told")
    say()
    table = columns("version", "published", ">bytes", "trainer", "metrics", "from", "here")
    for each in model.versions:
        version = f"{each.version} *" if each.latest else each.version
        published = f"{datetime.fromtimestamp(each.published_at):%Y-%m-%d %H:%M}"
        here = "yes" if each.here else "no"
        table.add_row(
            *cells(
                (version, published, f"{each.size_bytes:,}", each.trainer, _metrics(each.metrics), _origin(each), here)
            )
        )
    print_table(table)


def show_published(model: ModelDetail) -> None:
    """What the name offers now, and how others have it."""
    say(f"{model.name} offers {model.latest}, of {many(len(model.versions), 'version')}")
    if not model.announced:
        say("nobody could be told yet: the directory hears of it when a peer is connected")
    say(f"others have it with: primep2p model pull {model.owner}/{model.name}")


def show_path(found: ModelPath) -> None:
    """The file alone, so that it can be used in a command."""
    say(found.path)


def show_removed(gone: ModelGone) -> None:
    freed = f", {gone.freed_bytes:,} bytes are free" if gone.freed_bytes else "; its params stay: something needs them"
    say(f"removed {gone.name}@{', '.join(gone.versions)}{freed}")


def show_exported(exported: "Exported") -> None:
    say(f"{exported.model} is in {exported.file}, {exported.size_bytes:,} bytes")


def show_answers(answered: "Answered") -> None:
    """The arrays, each under its name; of those in a file only the shapes."""
    for name, shape in answered.shapes.items():
        say(f"{name}  {' x '.join(map(str, shape)) or 'one value'}")
        for row in _rows(answered.values.get(name, [])):
            say(f"  {row}")
    if answered.file:
        say(f"in {answered.file}")


def _rows(values: Any) -> list[str]:
    if not isinstance(values, list):
        return [_number(values)]
    if not any(isinstance(each, list) for each in values):
        return ["  ".join(map(_number, values))] if values else []
    return [line for each in values for line in _rows(each)]


def _number(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _metrics(metrics: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {number(value)}" for name, value in metrics.items()) or "-"


def _origin(version: VersionView) -> str:
    if not version.run:
        return "a file"
    known = {"certified": "certified", "contradicted": "NOT what its run certified"}.get(version.certified, "unchecked")
    return f"{version.run[:SHORT]}@{version.round}, {known}"
