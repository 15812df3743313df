"""The examples for daemons whose data is a directory with all sets; imported in trainers' processes only."""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).parents[2] / "examples"))


def cancer() -> object:
    """The example in scikit-learn."""
    from sklearn_breast_cancer import BreastCancer

    class OneOfTwo(BreastCancer):
        def read(self, path: Path) -> Mapping[str, Any]:
            return super().read(path / "breast_cancer.npz")

    return OneOfTwo()


def digits() -> object:
    """The example in PyTorch."""
    from torch_digits import Digits

    class OneOfTwo(Digits):
        def read(self, path: Path) -> Mapping[str, Any]:
            return super().read(path / "digits.npz")

    return OneOfTwo()
