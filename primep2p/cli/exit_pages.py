"""A page for each exit code: what it means, why it comes, what to do. `primep2p help exit` shows them, docs/exits has
them."""

from msgspec import Struct

from primep2p.cli.exits import EXIT_CODES
from primep2p.model.errors import (
    CallError,
    ConfigError,
    PeerError,
    PluginError,
    PrimeError,
    StoreError,
    Unavailable,
)

__all__ = ["EXIT_PAGES", "ExitPage"]

INTERRUPTED = 130


class ExitPage(Struct, frozen=True):
    """What a script and its owner need to know of a code."""

    name: str
    meaning: str
    causes: tuple[str, ...]
    """Why it comes, the most frequent first."""
    remedies: tuple[str, ...]
    """What to do, in the order in which to try it."""


_OF_ERRORS: dict[type[PrimeError], ExitPage] = {
    PrimeError: ExitPage(
        "error",
        "Something failed that no other code is for.",
        (
            "`primep2p doctor` found a fault.",
            "`primep2p demo` did not end as it should.",
            "A bug of primep2p: then there is a traceback, or the sentence says that something is internal.",
        ),
        (
            "Read the lines above: `doctor` prints how to mend each fault.",
            "Of a bug, please report the sentence, the traceback, and what `primep2p daemon logs` prints.",
        ),
    ),
    ConfigError: ExitPage(
        "config",
        "What somebody wrote is wrong: a node.toml, a run.toml, a variable PRIMEP2P__…, or the command line itself. "
        "Nothing was begun. Trying again changes nothing.",
        (
            "A key is misspelt, or a value is out of its bounds: the sentence names the path of the key.",
            "A port in p2p.listen is taken, by another daemon perhaps.",
            "The home is in use by another daemon, or belongs to another identity, network or version.",
            "An option is not one that the command has.",
        ),
        (
            "`primep2p config check` tells every mistake of the configuration, `primep2p run check FILE` of a run's.",
            "`primep2p config show` tells where each value comes from.",
            "`primep2p COMMAND --help` has the options of a command.",
        ),
    ),
    Unavailable: ExitPage(
        "unavailable",
        "Nothing is wrong in itself, and it cannot be done now. To try again later is sensible.",
        (
            "No daemon runs for this home.",
            "No peer is connected, or none of those who are knows what was asked for.",
            "A model or a checkpoint is still on its way here.",
            "The daemon is still starting, or too busy to answer in time.",
        ),
        (
            "`primep2p status` tells whether the daemon runs; `primep2p daemon start --detach` starts it.",
            "`primep2p peers` tells who is connected, `primep2p doctor` why nobody might be.",
            "Try again: scripts can wait some seconds and do so.",
        ),
    ),
    CallError: ExitPage(
        "call",
        "What was asked for cannot be done as asked: the caller's mistake. Trying the same again changes nothing.",
        (
            "There is no such run, round, peer or model here.",
            "This node may not do it: only a run's creator bans, only inviters invite.",
            "The run is finished, or has not begun.",
            "An invite or a pin is damaged, used up, or of another run.",
        ),
        (
            "`primep2p run list` has the runs of this node, `primep2p run show RUN` all about one.",
            "The line below the sentence says what would be right.",
        ),
    ),
    PluginError: ExitPage(
        "plugin",
        "A trainer raised an exception, hung, or gave something that is no model.",
        (
            "It cannot be imported: a library is missing from this Python.",
            "Its data is missing or of another shape: see trainer.data in node.toml.",
            "Its settings, trainer_config in run.toml, are not those that it knows.",
            "It was killed: too little memory.",
        ),
        (
            "Read the lines that begin with |: they are the last words of the trainer.",
            "`primep2p config show` tells which data and which file it was given.",
        ),
    ),
    StoreError: ExitPage(
        "store",
        "The disk failed, or what is on it is damaged. A daemon ends rather than risk what is certified; nothing that "
        "it called certified is lost by that.",
        (
            "The disk is full, or a quota is reached.",
            "The home cannot be read or written: another owner, or a read-only file system.",
            "Files were changed, or restored in part: a store that makes no sense is refused.",
            "A newer primep2p wrote this home.",
        ),
        (
            "`primep2p doctor` tells how much room there is, and whether the home can be written.",
            "Make room, or put the owner and the modes right, and start again: it goes on where it was.",
            "Of a damaged home, restore a backup, an older one is safe too; or begin with another home, or with "
            "`primep2p reset`, and join the runs anew.",
        ),
    ),
    PeerError: ExitPage(
        "peer",
        "A peer sent what the protocol forbids, and nobody else could be asked. Nothing was changed here.",
        (
            "The peer runs another version.",
            "It is faulty, or lies.",
        ),
        (
            "`primep2p peers` tells what each peer is accused of.",
            "Connect to another member of the run: p2p.bootstrap in node.toml names whom to meet first.",
        ),
    ),
}

EXIT_PAGES: dict[int, ExitPage] = {
    0: ExitPage(
        "done",
        "What was asked for is done.",
        ("All went well; or whoever read a command's output had seen enough.",),
        ("Nothing.",),
    ),
    **{code: _OF_ERRORS[kind] for kind, code in EXIT_CODES.items()},
    INTERRUPTED: ExitPage(
        "interrupted",
        "Somebody pressed Ctrl-C, or a daemon was told a second time to end.",
        ("A signal: SIGINT.",),
        ("Nothing: what was durable is durable, and a daemon goes on at its next start.",),
    ),
}
