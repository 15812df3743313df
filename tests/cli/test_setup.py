import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / ".ci" / "venv"


@pytest.fixture
def machine(tmp_path):
    """A machine with this Python, apt-get, and a compiler that knows what the test lets it know."""
    commands = tmp_path / "bin"
    commands.mkdir()
    (tmp_path / "checkout" / ".ci").mkdir(parents=True)
    shutil.copy(SCRIPT, tmp_path / "checkout" / ".ci" / "venv")

    def add(name: str, text: str) -> None:
        (commands / name).write_text(f"#!/bin/sh\n{text}\n")
        (commands / name).chmod(0o755)

    for name in ("mktemp", "rm", "uname", "dirname", "grep", "sed", "cat", "tail", "touch"):
        (commands / name).symlink_to(shutil.which(name) or "/bin/false")
    add("apt-get", "exit 0")

    def check(extra: str = "--check") -> subprocess.CompletedProcess[str]:
        script = str(tmp_path / "checkout" / ".ci" / "venv")
        env = {"PATH": str(commands), "PIP_NO_INDEX": "1", "HOME": os.environ.get("HOME", "/")}
        return subprocess.run(["/bin/sh", script, extra], env=env, capture_output=True, text=True, timeout=60)

    check.add = add
    check.checkout = tmp_path / "checkout"
    return check


def test_a_shim_of_a_python_that_is_not_installed_is_passed_over(machine):
    machine.add("python3.13", "echo 'python3.13: command not found' >&2; exit 127")
    checked = machine()
    assert checked.returncode == 1
    assert checked.stderr.startswith("primep2p needs Python 3.11 or newer, not found here: sudo apt-get install -y")


@pytest.mark.parametrize(
    ("compiler", "missing"),
    [
        ("exit 1", "a C compiler (gcc)"),
        ("! grep -q gmp.h", "the GMP library's headers (libgmp-dev)"),
        ("! grep -q Python.h", "Python's headers (python3"),
    ],
)
def test_what_is_missing_is_the_first_line_with_its_command(machine, compiler, missing):
    machine.add("python3", f'exec {sys.executable} "$@"')
    machine.add("cc", compiler)
    checked = machine()
    assert checked.returncode == 1
    assert checked.stdout == ""
    first = checked.stderr.splitlines()[0]
    assert f"primep2p needs {missing}" in first
    assert "sudo apt-get install -y libgmp-dev gcc" in first


def test_a_machine_with_everything_passes_without_a_word(machine):
    machine.add("python3", f'exec {sys.executable} "$@"')
    machine.add("cc", "cat >/dev/null; exit 0")
    checked = machine()
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, "", "")


@pytest.mark.parametrize(
    ("extra", "wheels", "installed"),
    [("dev", True, ".[dev,mlx,torch] torch==2.13.0"), ("dev", False, ".[dev]"), ("demo", True, ".[demo]")],
)
def test_mlx_and_torch_are_installed_for_the_tests_where_they_have_wheels_and_else_a_line_each_says_so(
    machine, extra, wheels, installed
):
    machine.add("python3", f'exec {sys.executable} "$@"')
    machine.add("cc", "cat >/dev/null; exit 0")
    python = machine.checkout / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    log, code = machine.checkout / "asked", 0 if wheels else 1
    python.write_text(
        f'#!/bin/sh\ncase "$*" in *--dry-run*) echo "ERROR: no wheel"; exit {code};; esac\necho "$@" >> {log}\n'
    )
    python.chmod(0o755)
    made = machine(extra)
    assert made.returncode == 0
    assert log.read_text().endswith(f"--editable {installed}\n")
    without = extra == "dev" and not wheels
    assert ("no MLX, which has wheels for Linux with glibc 2.35" in made.stdout) == without
    assert ("no PyTorch: pip has no wheel of it" in made.stdout) == without


def test_a_torch_that_brings_cuda_is_left_out_and_a_line_says_so(machine):
    machine.add("python3", f'exec {sys.executable} "$@"')
    machine.add("cc", "cat >/dev/null; exit 0")
    python = machine.checkout / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    log = machine.checkout / "asked"
    report = '"name": "nvidia-cublas"'
    python.write_text(f'#!/bin/sh\ncase "$*" in *--dry-run*) echo \'{report}\'; exit 0;; esac\necho "$@" >> {log}\n')
    python.chmod(0o755)
    made = machine("dev")
    assert log.read_text().endswith("--editable .[dev,mlx]\n")
    assert "no PyTorch: pip has the one for CUDA only" in made.stdout
