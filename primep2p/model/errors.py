"""Errors say who is at fault, and what to do next."""

from collections.abc import Sequence

__all__ = [
    "BlobLost",
    "CallError",
    "ConfigError",
    "PeerError",
    "PluginError",
    "PrimeError",
    "StoreError",
    "Unavailable",
]


class PrimeError(Exception):
    """The root of all errors that a person reads: one sentence, and a hint where there is one."""

    code = "error"

    def __init__(self, sentence: str, *, hint: str = "") -> None:
        super().__init__(sentence)
        self.sentence = sentence
        self.hint = hint
        if hint:
            self.add_note(hint)  # a traceback shows it too, to whoever calls from a program


class ConfigError(PrimeError):
    """The configuration is wrong: names the TOML path; the command exits with 2 and no traceback."""

    code = "config"

    def __init__(self, sentence: str, *, hint: str = "", mistakes: Sequence[str] = ()) -> None:
        super().__init__(sentence, hint=hint)
        self.mistakes = tuple(mistakes) or (sentence,)
        """All there are, the one in the sentence first."""


class PeerError(PrimeError):
    """A peer broke the protocol: ends that conversation, is counted, and changes nothing."""

    code = "peer"


class Unavailable(PrimeError):
    """Nothing is wrong but it cannot be done now: a retry is sensible."""

    code = "unavailable"


class PluginError(PrimeError):
    """A trainer raised, hung or returned nonsense: carries the last lines of its stderr."""

    code = "plugin"

    def __init__(self, sentence: str, *, stderr: str = "", hint: str = "") -> None:
        super().__init__(sentence, hint=hint)
        self.stderr = stderr


class StoreError(PrimeError):
    """The disk failed: names the path; the daemon stops rather than risk what is certified."""

    code = "store"


class BlobLost(StoreError):
    """A blob is not held, or was found damaged and is set aside: the disk works, and what needed the blob has to do
    without it until it is fetched again."""


class CallError(PrimeError):
    """A control call cannot be answered as asked: the caller's mistake."""

    code = "call"
