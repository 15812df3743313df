"""A round of jobs as the lines that go over the control socket, for docs/jobs.md: `python -m tests.nodes.exchange`.

Three whole nodes in virtual time; the lines are those of one of them, read and answered as its socket does.
"""

import json
import tempfile
import textwrap
from base64 import b64encode
from pathlib import Path
from typing import Any

import numpy as np
import trio
from safetensors.numpy import load_file, save_file

from primep2p.control.calls import decode_call
from primep2p.control.handlers import NodeHandlers
from primep2p.control.jsonrpc import Request, answer_line, decode_request, request_line
from primep2p.model.records import RoundPolicy
from tests.nodes.loops import Loop, run_of_jobs
from tests.nodes.world import Scenario, World, simulate

__all__ = ["exchanged", "shown"]

WIDTH = 116

Said = tuple[str, dict[str, Any]]
"""An arrow and what it carries: -> to the daemon, <- from it."""


class Dialogue:
    """Requests of one client, and what they were answered."""

    def __init__(self, world: World) -> None:
        self.said: list[Said] = []
        self._handlers = NodeHandlers(world.nodes[0].alive)

    async def ask(self, method: str, **params: object) -> dict[str, Any]:
        line = request_line(len(self.said) // 2 + 1, method, params)
        request = decode_request(line)
        assert isinstance(request, Request)
        answer = answer_line(request.id, await self._handlers.answer(decode_call(method, bytes(request.params))))
        self.said += [("->", json.loads(line)), ("<-", json.loads(answer))]
        return json.loads(answer)["result"]


async def converse(world: World, root: Path) -> list[Said]:
    """Two rounds, and their end: over the disk, and by pieces."""
    creator, *others = world.nodes
    await creator.start()
    world.run = (await creator.alive.create_run(run_of_jobs(world))).run
    for other in others:
        await other.start()
        await other.alive.join_run(world.run)
    await world.until_round(0, world.nodes)
    dialogue, run, update = Dialogue(world), world.run[:12], root / "update.safetensors"

    job = await dialogue.ask("job.next", run=run, wait_s=60)
    params = load_file(job["path"])
    await trio.sleep(3.5)
    await dialogue.ask("job.report", job=job["job"], step=10, steps=20, loss=0.75)
    await trio.sleep(3.5)
    submission = {"job": job["job"], "path": str(update), "examples": 8, "metrics": {"loss": 0.5}}
    save_file({**params, "w": params["w"].T.copy()}, update)
    await dialogue.ask("job.submit", **submission)
    save_file({name: np.asarray(array - np.float32(0.5)) for name, array in params.items()}, update)
    await dialogue.ask("job.submit", **submission)
    await dialogue.ask("job.next", run=run)
    await _others_submit(world)

    job = await dialogue.ask("job.next", run=run, wait_s=60)
    raw = update.read_bytes()
    await dialogue.ask("job.params", job=job["job"], offset=0, length=60)
    for offset in range(0, len(raw), 120):
        data = b64encode(raw[offset : offset + 120]).decode()
        await dialogue.ask("job.upload", job=job["job"], offset=offset, data=data)
    await dialogue.ask("job.submit", job=job["job"], kind="delta", examples=8)
    await _others_submit(world)
    await world.until_round(2, world.nodes)
    await dialogue.ask("job.report", job=job["job"], step=20, steps=20)
    await dialogue.ask("job.next", run=run, wait_s=60)
    return dialogue.said


async def _others_submit(world: World) -> None:
    for node in world.nodes[1:]:
        loop = Loop(node)
        await loop.submit(await loop.accept())


def exchanged(root: Path) -> list[Said]:
    """All that is said, with paths as they would be at home."""
    said: list[Said] = []

    async def story(world: World) -> None:
        said.extend(await converse(world, root))

    policy = RoundPolicy(first_members=3, min_updates=3, collect_s=20.0, rounds=2)
    simulate(Scenario(0, 3, policy), root / "world", story)
    homely = json.dumps(said).replace(str(root / "world" / "node0"), "/home/ada/.primep2p").replace(str(root), "/tmp")
    return [(arrow, message) for arrow, message in json.loads(homely)]


def shown(said: list[Said]) -> str:
    """As the page has it: lines longer than it is wide are broken at blanks, and go on after four of them."""
    lines = []
    for arrow, message in said:
        text = f"{arrow} {json.dumps(message)}"
        wrapped = textwrap.wrap(text, WIDTH, subsequent_indent="    ", break_long_words=False, break_on_hyphens=False)
        lines += wrapped
    return "\n".join(lines)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as directory:
        print(shown(exchanged(Path(directory))))
