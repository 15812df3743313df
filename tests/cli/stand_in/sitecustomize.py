"""A process with this directory on its path has a fake node in place of the real one, libp2p and all.

No seam reaches so far: what is tested is the command `primep2p daemon start` as a process, and with --detach the one
that this starts by itself. The home's name chooses how it behaves: "refuses" fails at its start, "dies" raises a bug.
"""

import sys
import types
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[3]))

if "daemon" in sys.argv or "-m" in sys.orig_argv:
    import os
    from contextlib import nullcontext

    import trio

    from primep2p.model.errors import ConfigError
    from tests.control.fake_node import FakeNode

    class Daemon(FakeNode):
        async def run(self, *, task_status=trio.TASK_STATUS_IGNORED):
            if self.home.name == "refuses":
                raise ConfigError("another daemon has this home", hint="stop it")
            if self.home.name == "dies":
                raise ZeroDivisionError("of the node")
            await super().run(task_status=task_status)

        def status(self):
            import msgspec

            return msgspec.structs.replace(super().status(), pid=os.getpid())

    building = types.ModuleType("primep2p.cli.daemon.build")
    building.build = lambda config: nullcontext(Daemon(config.home))
    sys.modules["primep2p.cli.daemon.build"] = building
