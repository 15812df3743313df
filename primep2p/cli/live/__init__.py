"""Views of a terminal that change with what happens: what is known, and how it is drawn."""
