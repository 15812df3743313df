"""`python -m tests.fuzz --seconds 60` runs every target for its share under atheris, `python -m tests.fuzz NAME` one.

What makes one fail is saved; `--input FILE` runs a target on it once, for which atheris is not needed. Inputs that
reached new code are kept for the next time.
"""

import argparse
import importlib.util
import re
import subprocess
import sys
import time
from pathlib import Path
from random import Random

ROOT = Path(__file__).parents[2]
KEPT = ROOT / ".fuzz"
LONGEST_S = 10
"""For one input: a thousand times what most take."""
MOST_MIB = 2048
FAILED = 1
LACKING = "make fuzz needs atheris, which has wheels for Linux on x86-64 and Python 3.11 to 3.13 only, and is not here."


def main() -> int:
    """The exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz")
    parser.add_argument("target", nargs="?", help="one of them; all share the time without")
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--input", type=Path, help="a file to run the target on once")
    asked = parser.parse_args()
    if asked.input is not None and asked.target:
        from tests.fuzz.surface import load

        load(asked.target).fuzz(asked.input.read_bytes())
        return 0
    if importlib.util.find_spec("atheris") is None:
        print(LACKING, file=sys.stderr)
        return 2
    if asked.target:
        explore(asked.target, asked.seconds)
        return 0  # not reached: libFuzzer ends the process
    return every(asked.seconds)


def every(seconds: int) -> int:
    """One target after the other, each in a process of its own, which it may bring down."""
    from tests.fuzz.surface import names

    share, codes = max(1, seconds // len(names())), []
    for name in names():
        began = time.monotonic()
        command = [sys.executable, "-m", "tests.fuzz", name, "--seconds", str(share)]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, errors="replace", check=False)
        print(summary(name, done.stderr + done.stdout, time.monotonic() - began), flush=True)
        if done.returncode:
            print(_failure(name, done.stderr + done.stdout), flush=True)
        codes.append(done.returncode)
    return FAILED if any(codes) else 0


def summary(name: str, said: str, seconds: float) -> str:
    """A line of what libFuzzer says: runs, and edges covered by the seeds and in the end."""
    covered = [int(number) for number in re.findall(r"cov: (\d+)", said)]
    runs = re.findall(r"stat::number_of_executed_units: +(\d+)", said) or re.findall(r"^#(\d+)", said, re.MULTILINE)
    seeds = re.search(r"INITED cov: (\d+)", said)
    new = covered[-1] - int(seeds.group(1)) if covered and seeds else 0
    total = covered[-1] if covered else 0
    return f"{name:16} {int(runs[-1]) if runs else 0:9,} runs {total:6} covered, {new:4} new {seconds:6.1f} s"


def _failure(name: str, said: str) -> str:
    saved = re.search(r"Test unit written to (\S+)", said)
    path = Path(saved.group(1)).relative_to(ROOT) if saved else None
    again = f"again with: {sys.executable} -m tests.fuzz {name} --input {path}" if path else "no input was saved"
    return "\n".join((*said.strip().splitlines()[-40:], f"{name} FAILED; {again}"))


def explore(name: str, seconds: int) -> None:
    """Under atheris, in this process, which it ends. Imports the code so that its branches are seen."""
    import atheris

    with atheris.instrument_imports(include=["primep2p"]):
        from tests.fuzz.mutation import mutated
        from tests.fuzz.surface import MAX_INPUT_BYTES, load

        surface = load(name)
    seeds = surface.corpus()
    corpus, crashes = KEPT / name / "corpus", KEPT / name / "failed"
    for directory in (corpus, crashes):
        directory.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate((*seeds, *surface.examples)):
        (corpus / f"seed-{number}").write_bytes(seed)

    def change(data: bytes, max_bytes: int, seed: int) -> bytes:
        chance = Random(seed)
        if chance.random() < 0.25:
            return bytes(atheris.Mutate(data, max_bytes))
        return mutated(data, chance, surface, seeds)[:max_bytes]

    options = [
        f"-max_total_time={seconds}",
        f"-timeout={LONGEST_S}",
        f"-rss_limit_mb={MOST_MIB}",
        f"-max_len={MAX_INPUT_BYTES}",
        "-len_control=0",
        f"-artifact_prefix={crashes}/",
        "-print_final_stats=1",
    ]
    atheris.Setup([sys.argv[0], *options, str(corpus)], surface.fuzz, custom_mutator=change)
    atheris.Fuzz()


if __name__ == "__main__":
    sys.exit(main())
