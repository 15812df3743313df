"""Types that services share: how one says that it has started, and where it runs what blocks."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

if TYPE_CHECKING:
    from trio_typing import TaskStatus  # the stubs that libp2p brings hide trio's own types
else:
    from trio import TaskStatus

__all__ = ["Offload", "TaskStatus"]

T = TypeVar("T")


class Offload(Protocol):
    """Runs a blocking function with its arguments, and gives what it returns: `trio.to_thread.run_sync`, or, where
    time is virtual and would run ahead of a thread, the call itself."""

    async def __call__(self, function: Callable[..., T], /, *arguments: Any) -> T: ...
