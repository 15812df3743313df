"""The code of a plugin's author from a file, in whatever process is to run it."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

__all__ = ["NoPython", "module_in"]


class NoPython(ImportError):
    """A file whose name is that of no Python code."""


def module_in(file: Path) -> ModuleType:
    """The module in a file, which may import those beside it. Raises NoPython, and whatever the code raises."""
    name = file.stem
    if name in sys.modules:
        name += "_plugin"  # a file called random.py must not replace the library's
    spec = importlib.util.spec_from_file_location(name, file)
    if spec is None or spec.loader is None:
        raise NoPython(f"{file} is no Python file")
    sys.path.append(str(file.absolute().parent))  # at the end: the files beside it shadow no installed package
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # as an import does: dataclasses of the author's look it up
    spec.loader.exec_module(module)
    return module
