"""What is written to the log and concerns the owner is an event too."""

import logging

import trio
import trio.testing

from primep2p.cli.daemon.logs import told
from primep2p.model.views.events import LogLine


async def test_warnings_of_the_log_are_told_and_lines_of_events_are_not_told_twice():
    heard: list[LogLine] = []
    with told(heard.append):
        logging.getLogger("primep2p.control").info("all is well")
        logging.getLogger("primep2p.node").warning("an event")
        logging.getLogger("elsewhere").warning("a library")
        await trio.to_thread.run_sync(logging.getLogger("primep2p.net").warning, "a stream from %s ended\x1b[2J", "p")
        logging.getLogger("primep2p.control").error(
            {"event": "a call failed", "call": "x", "level": "error", "exc_info": ValueError("no")}
        )
        await trio.testing.wait_all_tasks_blocked()
    logging.getLogger("primep2p.net").warning("afterwards")
    assert [(line.level, line.sentence) for line in heard] == [
        ("warning", "a stream from p ended[2J"),
        ("error", "a call failed call=x ValueError: no"),
    ]
