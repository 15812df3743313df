"""Everything that reads a stranger's bytes, each as a function of bytes that must not fail, whatever they are.

A module of `targets` is one surface. `make test` runs each for a moment with hypothesis, `make fuzz SECONDS=60` runs
each for its share of a minute under atheris, which follows coverage; `python -m tests.fuzz NAME` runs one.
"""
