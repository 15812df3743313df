"""How a service says that it has started: the type of `task_status`, for annotations."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from trio_typing import TaskStatus  # the stubs that libp2p brings hide trio's own types
else:
    from trio import TaskStatus

__all__ = ["TaskStatus"]
