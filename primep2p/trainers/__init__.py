"""Trainers that ship, written as anybody's are."""
