"""What is MLX's own. That it gives the bytes of numpy is in test_backends.py."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from primep2p.kernels.selfcheck import digest
from tests.kernels.rows import mlx_on

pytest.importorskip("mlx.core", exc_type=ImportError)


def test_callers_in_any_thread_share_the_one_that_touches_mlx() -> None:
    used = set()

    with ThreadPoolExecutor(1) as owner, ThreadPoolExecutor(4) as callers:

        def run(function: Callable[[], Any]) -> Any:
            def noted() -> Any:
                used.add(threading.get_ident())
                return function()

            return owner.submit(noted).result()

        backend = mlx_on(run)
        assert len(set(callers.map(lambda _: digest(backend), range(4)))) == 1
        assert used == {owner.submit(threading.get_ident).result()}
