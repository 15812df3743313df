"""Pure machines: what happened in, what is to be done out. No clock, no chance, no I/O."""
