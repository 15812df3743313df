"""A plugin whose own imports fail."""

import a_package_that_nobody_has  # noqa: F401


class Trainer:
    """Never made."""
