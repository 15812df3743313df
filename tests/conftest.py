"""Async tests run under trio, and none for ever."""

import importlib
import inspect
from contextlib import suppress
from pathlib import Path

import pytest
import trio
from hypothesis import HealthCheck, settings

LIMIT_S = 120.0
"""For a test that hangs. A process that imports the library takes 2 s on an idle machine and 24 s at a load of ten."""

ALONE = {"loopback", "net", "netns"}
"""Directories of tests with many processes, sockets and clocks that are real. What starts one process or two, and waits
for no clock of its own, bears a neighbour."""

# Machines that run many tests at once are slow now and then: that is no fault of the code.
settings.register_profile("shared", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("shared")


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    if not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    wanted = inspect.signature(pyfuncitem.obj).parameters
    arguments = {name: pyfuncitem.funcargs[name] for name in wanted}

    async def bounded() -> None:
        with trio.fail_after(LIMIT_S):
            await pyfuncitem.obj(**arguments)

    trio.run(bounded)
    return True


def pytest_sessionstart() -> None:
    """MLX's first stream belongs to the thread that computes first, and graphs of plans are traced with that one alone.
    A process of the product has one use for MLX and one thread for it; a process of tests has both uses."""
    with suppress(ImportError):
        mlx = importlib.import_module("mlx.core")
        mlx.eval(mlx.zeros(1))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if item.path.relative_to(here).parts[0] in ALONE:
            item.add_marker(pytest.mark.alone)
