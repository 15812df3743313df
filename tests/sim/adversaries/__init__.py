"""Liars, one kind a class, found by the name that a scenario gives. `KINDS` has them all."""

from tests.sim.adversaries import copies, enders, floods, proposers, trainers, voters
from tests.sim.adversaries.base import KINDS, Adversary, Gang

__all__ = ["KINDS", "Adversary", "Gang", "copies", "enders", "floods", "proposers", "trainers", "voters"]
