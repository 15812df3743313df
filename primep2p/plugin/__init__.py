"""Trainers in processes of their own: what they see, how they are found, run and stopped."""
