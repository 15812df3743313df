"""Words of others, on their way to a terminal."""

__all__ = ["printable"]


def printable(text: str) -> str:
    """`text` in one line, without what would drive a terminal or write backwards."""
    return "".join(filter(str.isprintable, " ".join(text.expandtabs(4).splitlines())))
