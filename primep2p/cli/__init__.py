"""Commands, and what they are made with."""
