"""Plans, for people."""

from pathlib import Path

from primep2p.cli.render.printing import many, say
from primep2p.model.views.plans import PlanView

__all__ = ["show_added", "show_plan"]


def show_plan(view: PlanView, file: Path, check_command: str) -> None:
    """What is in the file, and what to do next; without a command it has been checked."""
    say(f"plan        {view.name}, {file}")
    say(f"owner       {view.owner}{'' if view.trusted else ', whom this node does not trust'}")
    say(f"batch       {_arrays(view.batch)}; {f'{view.rows} rows each' if view.rows else 'any number of rows'}")
    say(f"params      {_arrays(view.params)}")
    if view.state:
        say(f"state       {_arrays(view.state)}")
    settings = ", ".join(f"{name} = {value:g}" for name, value in view.settings.items())
    say(f"settings    {settings or '-'}")
    say(f"metrics     {', '.join(view.metrics)}")
    say(f"graphs      {', '.join(f'{kind} ({size} bytes)' for kind, size in view.graphs.items())}, by MLX {view.mlx}")
    say(f"primitives  {', '.join(f'{name} {count}' for name, count in view.primitives.items())}")
    if check_command:
        say(f"its signature holds, and it uses nothing that a plan may not; to run it once on zeros: {check_command}")
    else:
        say(f"checked: {many(len(view.graphs), 'graph')} ran on zeros")


def show_added(view: PlanView, trainer: str) -> None:
    """The plan that the node has now, and how a run names it."""
    say(f'the plan {view.name!r} is on this node; in a run.toml: trainer = "{trainer}"')
    if not view.trusted:
        say(f"its owner {view.owner} is not among plans.trust in node.toml: this node would not run it")


def _arrays(arrays: dict[str, str], shown: int = 8) -> str:
    told = [f"{name} {what}" for name, what in list(arrays.items())[:shown]]
    return ", ".join(told) + (f" and {len(arrays) - shown} more" if len(arrays) > shown else "")
