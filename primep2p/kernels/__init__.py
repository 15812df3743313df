"""Arrays in, arrays out, to the same bytes on every machine."""
